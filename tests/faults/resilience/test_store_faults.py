"""Redis killed, frozen, slow, cut and lossy under the limiter: the budget holds, the loop runs on, no late charge.

RL-8 and AS-1 on a real server. Numbers are bounds with room for a busy machine; what they must beat is redis-py's own
behaviour on the same server: 4.8 s a call with a 50 ms timeout, by its ten silent retries. A gap of the loop is the
best of three rounds: other work on the machine only adds to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from backstay.errors import RateLimited, Unavailable
from backstay.resilience import AsyncRateLimiter, RateLimiter
from backstay.resilience.timeout import DeadlineExceeded, deadline as within
from backstay.testing import measured
from backstay.testing.proxy import FaultProxy

BUDGET = 0.05
SLACK = 0.1  # a loaded machine's
LOOP_GAP = 0.020


class Server:
    """A Redis of this test's own, with a client that reads what was charged."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self.server = start()
        self.url: str = self.server.url
        self.client = redis.Redis.from_url(self.url)

    def spent(self, name: str) -> int:
        """Return how many tokens of a 1000-a-day bucket are gone (none comes back within a test)."""
        value: Any = self.client.get(f"backstay:default:limit:1:{{{name}:k}}")
        if value is None:
            return 0
        seconds, micro = self.client.time()
        missing = int(value.split()[0]) - (seconds * 1_000_000 + micro)
        return round(missing / 86_400_000)


@pytest.fixture
def server(own_redis: Callable[[], Any]) -> Iterator[Server]:
    subject = Server(own_redis)
    yield subject
    subject.client.close()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.server.pause()
    try:
        yield
    finally:
        server.server.unpause()


def timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


class Gap:
    """The longest time for which the event loop did not come round."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.longest = max(self.longest, now - last - 0.001)
            last = now


def best_gap(round_of: Callable[[Gap, int], object]) -> float:
    """Return the shortest longest gap of up to three rounds."""
    best = float("inf")
    for number in range(3):
        gap = Gap()
        round_of(gap, number)
        best = min(best, gap.longest)
        if best < LOOP_GAP:
            break
    return best


def test_RL8_a_frozen_server_costs_the_budget_three_times_and_then_nothing(server: Server) -> None:
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="frozen", budget=BUDGET)
    limiter.acquire("k")
    with frozen(server), measured() as seen:
        first = [timed(lambda: limiter.acquire("k")) for _ in range(3)]
        rest = timed(lambda: [limiter.acquire("k") for _ in range(1000)])
    assert all(BUDGET * 0.9 <= seconds <= BUDGET + SLACK for seconds in first)
    assert rest < 0.1
    assert seen.count("rate_limiter.requests", policy_name="frozen", result="store_error_open") == 1003
    assert seen.count("rate_limiter.store.duration", policy_name="frozen", error_type="timeout") == 3
    limiter.close()


def test_RL8_what_timed_out_is_not_charged_when_the_server_goes_on(server: Server) -> None:
    """500 tokens were charged after SIGCONT before calls carried a moment after which they are void."""
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="late", budget=BUDGET)
    limiter.acquire("k")
    with frozen(server):
        for _ in range(3):
            limiter.acquire("k")
        time.sleep(BUDGET)
    deadline = time.monotonic() + 5
    while server.client.info("clients")["connected_clients"] > 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # the server reads what lay in its sockets, and then their end
    assert server.spent("late") == 1
    limiter.close()


def test_RL8_a_thousand_tasks_beside_a_frozen_server(server: Server) -> None:
    """Each gets its answer in the budget, the loop never stands still, and nothing is charged afterwards."""
    slowest: list[float] = []

    async def main(gap: Gap, name: str) -> None:
        limiter = AsyncRateLimiter.connect(server.url, rate="1000/day", name=name, budget=BUDGET)
        await limiter.acquire("k")
        limiter.buckets.store.gate.passed()  # type: ignore[union-attr]  # the round before may have shut it
        took: list[float] = []

        async def one() -> None:
            began = time.monotonic()
            await limiter.acquire("k")
            took.append(time.monotonic() - began)

        with frozen(server):
            async with gap.watched(), asyncio.TaskGroup() as group:
                for number in range(1000):
                    group.create_task(one())
                    if number % 50 == 49:
                        await asyncio.sleep(0)  # callers arrive over some turns; making tasks is not what is measured
        await asyncio.sleep(0.2)  # the server goes on and reads a thousand commands
        await limiter.close()
        slowest.append(max(took))

    longest = best_gap(lambda gap, number: asyncio.run(main(gap, f"crowd{number}")))
    assert longest < LOOP_GAP
    assert min(slowest) <= BUDGET + SLACK
    assert [server.spent(f"crowd{number}") for number in range(len(slowest))] == [1] * len(slowest)


def test_RL8_a_killed_server_is_noticed_at_once_and_found_again(server: Server) -> None:
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="killed", budget=BUDGET, on_store_failure="closed")
    limiter.acquire("k")
    server.server.kill()
    for _ in range(3):
        assert timed(lambda: limiter.try_acquire("k")) <= BUDGET + SLACK
        assert limiter.try_acquire("k").result == "store_error_closed"
    server.server.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            limiter.acquire("k")
            break
        except Unavailable:
            assert time.monotonic() < deadline, "the limiter never found its server again"
            time.sleep(0.02)
    limiter.close()


def test_RL8_a_killed_server_under_asyncio(server: Server) -> None:
    async def main(gap: Gap, number: int) -> None:
        limiter = AsyncRateLimiter.connect(
            server.url, rate="1000/day", name=f"killed-{number}", budget=BUDGET, on_store_failure="closed"
        )
        async with asyncio.timeout(10):
            while (await limiter.try_acquire("k")).result != "acquired":
                await asyncio.sleep(0.02)
        await asyncio.to_thread(server.server.kill)
        async with gap.watched():
            outcomes = await asyncio.gather(*(limiter.acquire("k") for _ in range(100)), return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        await asyncio.to_thread(server.server.start)
        async with asyncio.timeout(10):
            while (await limiter.try_acquire("k")).result != "acquired":
                await asyncio.sleep(0.02)
        await limiter.close()

    assert best_gap(lambda gap, number: asyncio.run(main(gap, number))) < LOOP_GAP


def test_AS1_a_server_slower_than_the_budget_never_stops_the_loop(server: Server) -> None:
    async def main(url: str, gap: Gap, number: int) -> None:
        limiter = AsyncRateLimiter.connect(url, rate="1000/day", name=f"slow-{number}", budget=BUDGET)
        async with gap.watched():
            for _ in range(5):
                await asyncio.gather(*(limiter.acquire("k") for _ in range(50)))
        await limiter.close()

    with FaultProxy(server.server.host, server.server.port) as proxy:
        proxy.delay(replies=1.0)
        url = proxy.url(server.url)
        began = time.monotonic()
        assert best_gap(lambda gap, number: asyncio.run(main(url, gap, number))) < LOOP_GAP
        assert time.monotonic() - began < 6.0


def test_RL8_no_call_waits_for_a_frozen_server_longer_than_its_deadline_outside(server: Server) -> None:
    """It ends in the deadline's error and no failure mode; the gate learns nothing; neither is charged later."""
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="hurried", budget=1.0)
    limiter.acquire("k")

    def hurried() -> None:
        with within(0.05), pytest.raises(DeadlineExceeded, match="before the store answered"):
            limiter.acquire("k")

    with frozen(server):
        assert [timed(hurried) < 0.05 + SLACK for _ in range(5)] == [True] * 5
        assert not limiter.buckets.store.gate.shut  # type: ignore[union-attr]  # of these buckets
        with within(0), pytest.raises(DeadlineExceeded, match="was not asked"):
            limiter.acquire("k")
    limiter.acquire("k")
    assert server.spent("hurried") == 2
    with within(0):
        assert limiter.refund("k")  # what goes back goes back although its work is out of time
    assert server.spent("hurried") == 1
    limiter.close()


def test_RL8_a_task_with_a_deadline_outside_ends_before_those_in_front_of_it(server: Server) -> None:
    async def main() -> list[float]:
        limiter = AsyncRateLimiter.connect(server.url, rate="1000/day", name="overtaking", budget=1.0)
        await limiter.acquire("k")

        async def one(seconds: float) -> float:
            began = time.monotonic()
            with within(seconds):
                try:
                    await limiter.acquire("k")
                except DeadlineExceeded:
                    assert seconds < 1.0
            return time.monotonic() - began

        with frozen(server):
            took = list(await asyncio.gather(one(30.0), one(0.3), one(0.05), one(0.1)))
        assert not limiter.buckets.store.gate.shut  # type: ignore[union-attr]  # of these buckets
        await limiter.close()
        return took

    took = asyncio.run(main())
    for seconds, expected in zip(took, (1.0, 0.3, 0.05, 0.1), strict=True):
        assert expected * 0.9 <= seconds <= expected + SLACK
    assert server.spent("overtaking") == 1


def test_RL8_deadlines_that_are_always_short_shut_the_gate_all_the_same(server: Server) -> None:
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="always-short", budget=BUDGET)
    limiter.acquire("k")
    with frozen(server):
        for _ in range(3):
            with within(0.8 * BUDGET), pytest.raises(DeadlineExceeded):
                limiter.acquire("k")
        with within(0.8 * BUDGET):
            assert timed(lambda: limiter.acquire("k")) < 0.01  # open: the store is left alone
    limiter.close()


def test_RL8_connecting_is_inside_the_budget(server: Server) -> None:
    """A server that accepts and says nothing: the greeting counts against the call that needs it."""
    with FaultProxy(server.server.host, server.server.port) as proxy:
        proxy.half_open()
        limiter = RateLimiter.connect(proxy.url(server.url), rate="1000/day", name="silent", budget=BUDGET)
        assert timed(lambda: limiter.acquire("k")) <= BUDGET + SLACK
        limiter.close()


def test_RL8_a_lost_reply_is_not_sent_again(server: Server) -> None:
    """The one case that stays unknown: the server answered in time, the reply was lost. It is charged at most once."""
    with FaultProxy(server.server.host, server.server.port) as proxy:
        limiter = RateLimiter.connect(proxy.url(server.url), rate="1000/day", name="lost", budget=BUDGET)
        limiter.acquire("k")
        proxy.drop_replies(times=1)
        decision = limiter.try_acquire("k")
        assert decision.result == "store_error_open"
        proxy.heal()
        assert server.spent("lost") == 2
        assert limiter.try_acquire("k").result == "acquired"
        assert server.spent("lost") == 3
        limiter.close()


def test_RL8_a_connection_that_was_cut_at_rest_costs_nothing(server: Server) -> None:
    with FaultProxy(server.server.host, server.server.port) as proxy:
        limiter = RateLimiter.connect(
            proxy.url(server.url), rate="1000/day", name="cut", budget=1.0, on_store_failure="closed"
        )
        limiter.acquire("k")
        proxy.cut()
        time.sleep(1.1)  # a firewall's or server's idle timeout, as seen from here
        limiter.acquire("k")
        assert server.spent("cut") == 2
        limiter.close()


def test_RL8_local_mode_keeps_a_limit_while_the_server_is_down(server: Server) -> None:
    limiter = RateLimiter.connect(
        server.url, rate="10/day", name="local", budget=BUDGET, on_store_failure="local", local_share=0.5
    )
    server.server.kill()
    outcomes = [limiter.try_acquire("k") for _ in range(8)]
    assert [outcome.allowed for outcome in outcomes] == [True] * 5 + [False] * 3
    assert {outcome.result for outcome in outcomes} == {"store_error_local"}
    with pytest.raises(RateLimited):
        limiter.acquire("k")
    limiter.close()


def test_RL8_many_threads_beside_a_frozen_server_share_the_budget(server: Server) -> None:
    limiter = RateLimiter.connect(server.url, rate="1000/day", name="threads", budget=BUDGET)
    limiter.acquire("k")
    took: list[float] = []
    with frozen(server):
        threads = [
            threading.Thread(target=lambda: took.append(timed(lambda: [limiter.acquire("k") for _ in range(10)])))
            for _ in range(32)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(took) <= 3 * (BUDGET + SLACK)
    assert server.spent("threads") == 1
    limiter.close()
