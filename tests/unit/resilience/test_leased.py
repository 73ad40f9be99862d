"""Leased tokens: what they save, and that they cost no more than is stated (N tokens a process, late or stranded)."""

from __future__ import annotations

import asyncio
import os
import threading
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from backstay.errors import Misuse
from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.rate_limiting.leased import AsyncLeasedBuckets, LeasedBuckets, Leases
from unit.resilience.lua_redis import LuaRedis, lua_buckets
from unit.resilience.oracle import Oracle

SECOND = 1_000_000


class Counting:
    """Buckets of the shipped script, and how often they were asked. `fails` makes them fail after the charge."""

    def __init__(self, server: LuaRedis, rate: Rate) -> None:
        self.inner = lua_buckets(server, rate)
        self.asked: list[int] = []
        self.given: list[tuple[str, int]] = []
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def charge(self, key: str, cost: int) -> int:
        self.asked.append(cost)
        balance = self.inner.charge(key, cost)
        if self.fails:
            raise StoreFailed("timeout", "the reply was lost")
        return balance

    def give(self, key: str, cost: int, until: int) -> bool:
        self.given.append((key, cost))
        if self.fails:
            raise StoreFailed("timeout", "the reply was lost")
        return bool(self.inner.give(key, cost, until))


class OfAsyncio:
    """The asyncio face of the same, so that one test covers both."""

    def __init__(self, counting: Counting) -> None:
        self.inner = counting

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def charge(self, key: str, cost: int) -> int:
        await asyncio.sleep(0)
        return self.inner.charge(key, cost)

    async def give(self, key: str, cost: int, until: int) -> bool:
        return self.inner.give(key, cost, until)


class Driven:
    """Leased buckets of the asyncio make behind a blocking face."""

    def __init__(self, counting: Counting, lease: int, clock: Any) -> None:
        self.subject = AsyncLeasedBuckets(OfAsyncio(counting), lease, clock=clock)
        self.leases = self.subject.leases

    def charge(self, key: str, cost: int) -> int:
        return asyncio.run(self.subject.charge(key, cost))

    def give_back(self) -> None:
        asyncio.run(self.subject.give_back())


@pytest.fixture(params=["blocking", "asyncio"])
def make(request: pytest.FixtureRequest) -> Any:
    def made(server: LuaRedis, rate: Rate, lease: int) -> tuple[Counting, Any]:
        counting = Counting(server, rate)
        kind: Any = LeasedBuckets if request.param == "blocking" else Driven
        return counting, kind(counting, lease, clock=lambda: server.now_us / SECOND)

    return made


def test_a_lease_is_one_trip_for_so_many_calls(make: Any) -> None:
    counting, subject = make(LuaRedis(), Rate.of("1000/hour"), 100)
    assert all(subject.charge("k", 1) > 0 for _ in range(300))
    assert counting.asked == [100] * 3
    assert subject.leases.held() == 0


def test_each_key_has_its_own(make: Any) -> None:
    counting, subject = make(LuaRedis(), Rate.of("10/hour"), 5)
    assert [subject.charge(key, 1) > 0 for key in "abab"] == [True] * 4
    assert counting.asked == [5, 5]


def test_near_the_limit_leases_shrink_and_nobody_is_refused_for_them(make: Any) -> None:
    counting, subject = make(LuaRedis(), Rate.of("130/hour"), 100)
    # To the token, with one process, and no call pays for a lease that could not be filled.
    assert [subject.charge("k", 1) > 0 for _ in range(200)] == [True] * 130 + [False] * 70
    before = len(counting.asked)
    assert subject.charge("k", 1) < 0
    assert len(counting.asked) == before + 1  # a refusal costs one trip again
    assert subject.leases.held() == 0


def test_what_is_left_serves_first_and_a_refused_call_keeps_it(make: Any) -> None:
    counting, subject = make(LuaRedis(), Rate.of("10/hour"), 4)
    assert subject.charge("k", 1) > 0  # 3 in stock, 6 in the bucket
    assert subject.charge("k", 10) < 0  # it would need 7 more
    assert subject.leases.held() == 3
    assert subject.charge("k", 9) > 0
    assert subject.charge("k", 1) < 0
    assert sum(each for each in counting.asked) > 0


def test_tokens_are_not_spent_later_than_a_bucket_takes_to_fill(make: Any) -> None:
    server = LuaRedis()
    counting, subject = make(server, Rate.of("100/second"), 50)
    assert subject.charge("k", 1) > 0
    server.now_us += SECOND
    assert subject.charge("k", 1) > 0
    assert counting.asked == [50]
    server.now_us += 1
    assert subject.charge("k", 1) > 0
    assert counting.asked == [50, 2]  # 48 of 50 were not needed in that time: the next lease is what was
    assert counting.given == [("k", 48)]
    assert subject.leases.held() == 1


def test_what_was_not_spent_is_given_back(make: Any) -> None:
    server = LuaRedis()
    counting, subject = make(server, Rate.of("10/hour"), 8)
    assert subject.charge("k", 1) > 0
    subject.give_back()
    assert counting.given == [("k", 7)]
    assert sum(counting.inner.charge("k", 1) > 0 for _ in range(20)) == 9
    subject.give_back()
    assert counting.given == [("k", 7)]  # once


def test_giving_back_to_a_full_bucket_mints_nothing(make: Any) -> None:
    server = LuaRedis()
    counting, subject = make(server, Rate.of("10/second"), 8)
    assert subject.charge("k", 1) > 0
    server.now_us += SECOND
    subject.give_back()
    assert counting.given == [("k", 7)]
    assert sum(counting.inner.charge("k", 1) > 0 for _ in range(20)) == 10


def test_a_lost_reply_strands_one_lease_and_no_state(make: Any) -> None:
    server = LuaRedis()
    counting, subject = make(server, Rate.of("100/hour"), 10)
    counting.fails = True
    with pytest.raises(StoreFailed):
        subject.charge("k", 1)
    counting.fails = False
    assert subject.leases.held() == 0
    assert sum(subject.charge("k", 1) > 0 for _ in range(200)) == 90
    counting.fails = True
    subject.leases.stocks["k"].left = 1
    subject.give_back()  # a store that is down does not keep a process from ending
    assert subject.leases.held() == 0


def test_a_cancelled_task_puts_back_what_it_held() -> None:
    server = LuaRedis()
    counting = Counting(server, Rate.of("100/hour"))
    subject = AsyncLeasedBuckets(OfAsyncio(counting), 10, clock=lambda: server.now_us / SECOND)

    async def main() -> None:
        assert await subject.charge("k", 7) > 0
        task = asyncio.create_task(subject.charge("k", 5))
        await asyncio.sleep(0)
        assert subject.leases.held() == 0  # its three are with the task
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert subject.leases.held() == 3
        assert await subject.charge("k", 5) > 0  # and the next one may fetch

    asyncio.run(main())


def test_a_process_never_holds_two_leases_of_a_key() -> None:
    server = LuaRedis()
    counting = Counting(server, Rate.of("1000/hour"))
    subject = AsyncLeasedBuckets(OfAsyncio(counting), 100, clock=lambda: server.now_us / SECOND)

    async def main() -> list[int]:
        return await asyncio.gather(*(subject.charge("k", 1) for _ in range(50)))

    assert all(balance > 0 for balance in asyncio.run(main()))
    assert sorted(counting.asked) == [1] * 49 + [100]
    assert subject.leases.held() == 99


CALLS = st.lists(
    st.tuples(st.integers(0, 700_000), st.integers(0, 2), st.integers(1, 6), st.sampled_from("cccccccccg")),
    min_size=1,
    max_size=150,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 20), st.integers(6, 40), st.integers(2, 6), CALLS)
def test_RL2_late_and_stranded_are_at_most_a_lease_a_process(
    count: int, burst: int, lease: int, calls: list[tuple[int, int, int, str]]
) -> None:
    """Three processes on one bucket, in any order; `g` closes one. Every stretch of time is checked."""
    rate = Rate(count=count, burst=burst)
    server, processes = LuaRedis(), 3
    subjects = [LeasedBuckets(lua_buckets(server, rate), lease, clock=lambda: server.now_us / SECOND) for _ in "abc"]
    log: list[tuple[int, int]] = []
    bucket = Oracle(rate)  # without leases, charged with what was admitted; below 0 where that was too early
    for pause, process, cost, kind in calls:
        server.now_us += pause
        subject = subjects[process]
        if kind == "g":
            subject.give_back()
            assert subject.leases.held() == 0
        elif subject.charge("k", cost) > 0:
            log.append((server.now_us, cost))
            bucket.charge(Fraction(server.now_us, SECOND), 10**9)  # lets the time pass
            bucket.tokens -= cost
        else:
            bucket.charge(Fraction(server.now_us, SECOND), 10**9)
            assert bucket.tokens < cost + lease * processes
        assert all(each.leases.held() <= lease for each in subjects)
    for first in range(len(log)):
        admitted = 0
        for at, cost in log[first:]:
            admitted += cost
            passed = Fraction(at - log[first][0], SECOND)
            assert admitted <= burst + count * passed + lease * processes


def test_RL3_threads_of_a_process_spend_each_token_once() -> None:
    server = LuaRedis()
    lock = threading.Lock()

    class Locked(Counting):
        """The script runs in one thread at a time, as it does on a server."""

        def charge(self, key: str, cost: int) -> int:
            with lock:
                return super().charge(key, cost)

    subject = LeasedBuckets(Locked(server, Rate.of("3000/hour")), 50, clock=lambda: 0.0)
    granted: list[int] = []

    def run() -> None:
        granted.append(sum(subject.charge("k", 1) > 0 for _ in range(1000)))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) + subject.leases.held() == 3000
    assert subject.leases.held() == 0


def test_keys_are_bounded_and_further_ones_pay_call_by_call() -> None:
    now = [0.0]
    leases = Leases(Rate.of("10/second"), 5, clock=lambda: now[0], max_keys=3)
    for key in "abc":
        fetch = leases.fetch(key, 1)
        assert fetch is not None
        fetch.end(fetch.want, 1, now[0])
    assert leases.fetch("d", 1) is None
    now[0] += 1.1  # what is in stock is over
    last = leases.fetch("d", 1)
    assert last is not None
    assert last.over == [("a", 4), ("b", 4), ("c", 4)]  # to be given back
    assert set(leases.stocks) == {"d"}


def test_a_forked_child_leaves_the_tokens_to_its_parent() -> None:
    leases = Leases(Rate.of("10/hour"), 5)
    fetch = leases.fetch("k", 1)
    assert fetch is not None
    fetch.end(5, 1, leases.clock())
    assert leases.held() == 4
    child = os.fork()
    if child == 0:
        os._exit(leases.held())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert leases.held() == 4


@pytest.mark.parametrize("lease", [0, 1, -5, 11, 2.0, True, "5"])
def test_a_lease_that_can_never_be_taken_is_refused(lease: Any) -> None:
    with pytest.raises(Misuse, match="from 2 to the burst of 10"):
        Leases(Rate.of("10/hour"), lease)
