"""A read's time: split over its tiers, told to the origin, and the slow start after an outage (DG-6)."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Unavailable
from backstay.resilience.read_chain import LocalTier, ReadChain
from backstay.resilience.read_chain.recovery import Recovery
from backstay.resilience.read_chain.split import SHARE, for_exchange, for_origin
from backstay.resilience.timeout import deadline, remaining
from backstay.testing import ManualClock, measured
from unit.resilience.lua_read_cache import LuaCache
from unit.resilience.read_chains import COLOURS, Origin, answering, called, on_lua
from unit.resilience.virtual_loop import pause, run_virtually

SECONDS = st.floats(0, 1000)


@given(left=SECONDS, budget=st.floats(0.001, 10))
def test_DG6_the_tiers_never_get_more_than_what_is_left(left: float, budget: float) -> None:
    origin = for_origin(left, budget)
    assert origin is not None
    before = for_exchange(left, budget)
    after = for_exchange(left - origin, budget)
    assert 0 <= before <= left * SHARE
    assert origin + after <= left
    assert origin >= left * (1 - SHARE)
    assert for_origin(left, None) == left
    assert for_origin(None, budget) is None
    assert for_exchange(None, budget) == budget


def caches(chain: ReadChain) -> LuaCache:
    guarded: Any = chain._threads.shared
    cache = guarded._shared
    assert isinstance(cache, LuaCache)
    return cache


def test_DG6_the_deadline_is_split_over_the_tiers(clock: ManualClock) -> None:
    seen: list[float | None] = []

    def origin(product_id: int) -> str:
        seen.append(remaining(clock=clock))
        clock.advance(0.2)
        return "x"

    chain, _ = on_lua(clock, tier={"budget": 0.1}, budget=2.0)
    read = chain(origin)
    read(1)
    assert caches(chain).timeouts[:1] == pytest.approx([0.1]), "its own budget, where there is plenty"
    assert seen == [pytest.approx(1.9)], "what is left without the exchange that follows"
    caches(chain).timeouts.clear()
    with deadline(0.2, clock=clock):
        read(2)
    assert seen[-1] == pytest.approx(0.2 * (1 - SHARE))
    assert caches(chain).timeouts[0] == pytest.approx(0.2 * SHARE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_DG6_a_deadline_outside_that_is_nearer_than_the_budget_holds(clock: ManualClock) -> None:
    seen: list[float | None] = []
    chain = ReadChain("catalogue", local=LocalTier(max_stale=60), budget=1.0, clock=clock)
    read = chain(lambda: seen.append(remaining(clock=clock)))
    read()
    with deadline(0.5, clock=clock):
        read()
    with deadline(5, clock=clock):
        read()
    assert seen == [1.0, 0.5, 1.0]
    assert remaining(clock=clock) is None


@pytest.mark.parametrize("colour", COLOURS)
def test_DG6_past_the_deadline_the_origin_is_not_asked_and_the_process_answers(colour: str, clock: ManualClock) -> None:
    origin = Origin(colour)
    chain, server = on_lua(clock, fresh=0, local=LocalTier(max_stale=600))
    read = answering(chain, origin.read())
    called(read, 1)
    trips = server.trips
    with measured() as counts, deadline(0, clock=clock):
        assert called(read, 1).source == "local_cache"
        with pytest.raises(Unavailable, match="the deadline had passed"):
            called(read, 2)
    assert origin.asked == [1]
    assert server.trips == trips
    assert counts.count("read.faults", resource="catalogue", cause="no_time") == 2


def test_DG6_a_late_coroutine_is_cancelled_and_the_cache_still_has_its_time() -> None:
    clock = _LoopClock()
    chain, server = on_lua(clock, fresh=0, budget=1.0)  # type: ignore[arg-type]  # a clock like any other

    async def main() -> None:
        hang = False
        cancelled: list[float] = []

        @chain.answers
        async def read(product_id: int) -> str:
            if hang:
                try:
                    await pause(3600)
                except asyncio.CancelledError:
                    cancelled.append(clock())
                    raise
            return "x"

        await read(1)
        hang = True
        began = clock()
        answer = await read(1)
        assert (answer.source, answer.stale) == ("distributed_cache", True)
        assert cancelled == [pytest.approx(began + 0.9)], "0.1 s was kept back for the cache"
        server.down = True
        with pytest.raises(TimeoutError):
            await read(1)
        assert clock() - began < 2.0

    run_virtually(main())


class _LoopClock:
    """The virtual loop's time, and a standing one where there is none."""

    def __call__(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 1000.0


# -- recovery


def test_DG6_after_a_failure_few_reads_try_the_origin_again() -> None:
    recovery = Recovery(4)
    for _ in range(1000):
        assert recovery.enter(can_wait=True) is not None
    recovery.failed(recovery.enter(can_wait=True) or pytest.fail("calm"))
    permits = [recovery.enter(can_wait=True) for _ in range(100)]
    assert sum(permit is not None for permit in permits) == 4


def test_DG6_each_success_lets_one_more_try_until_all_may() -> None:
    recovery = Recovery(4)
    recovery.failed(recovery.enter(can_wait=True) or pytest.fail("calm"))
    rounds: list[int] = []
    while recovery.troubled:
        running = [permit for permit in (recovery.enter(can_wait=True) for _ in range(1000)) if permit is not None]
        rounds.append(len(running))
        for permit in running:
            recovery.answered(permit)
    assert rounds == [4, 8, 16, 32], "it doubles from round to round"
    assert all(recovery.enter(can_wait=True) for _ in range(1000))


def test_DG6_a_failure_in_between_begins_anew() -> None:
    recovery = Recovery(2)
    recovery.failed(recovery.enter(can_wait=True) or pytest.fail("calm"))
    first, second = recovery.enter(can_wait=True), recovery.enter(can_wait=True)
    assert first is not None and second is not None
    recovery.answered(first)
    recovery.failed(second)
    assert sum(recovery.enter(can_wait=True) is not None for _ in range(10)) == 2


def test_who_has_nothing_else_goes_in_any_case_and_takes_a_refills_place() -> None:
    recovery = Recovery(2)
    recovery.failed(recovery.enter(can_wait=True) or pytest.fail("calm"))
    must = [recovery.enter(can_wait=False) for _ in range(10)]
    assert None not in must
    assert recovery.enter(can_wait=True) is None
    for permit in must:
        recovery.left(permit or pytest.fail("it was let in"))
    assert recovery.enter(can_wait=True) is not None


def test_calls_from_before_the_trouble_say_nothing_about_its_end() -> None:
    recovery = Recovery(1)
    early = [recovery.enter(can_wait=True) or pytest.fail("calm") for _ in range(100)]
    recovery.failed(early.pop())
    for permit in early:
        recovery.answered(permit)
    assert recovery.troubled
    assert sum(recovery.enter(can_wait=True) is not None for _ in range(10)) == 1


@given(st.lists(st.sampled_from(["enter", "must", "answered", "failed", "left"]), max_size=60))
def test_permits_are_never_lost_or_made(steps: list[str]) -> None:
    recovery = Recovery(2)
    out: list[Any] = []
    for step in steps:
        if step in ("enter", "must"):
            permit = recovery.enter(can_wait=step == "enter")
            if permit is not None:
                out.append(permit)
            else:
                assert recovery.troubled and sum(each.counted for each in out) >= recovery._limit
        elif out:
            getattr(recovery, step)(out.pop())
        assert recovery._running == sum(each.counted for each in out)
    for permit in out:
        recovery.left(permit)
    assert recovery.enter(can_wait=True) is not None, "nobody is locked out for ever"


def test_a_forked_child_begins_without_the_parents_reads() -> None:
    recovery = Recovery(1)
    recovery.failed(recovery.enter(can_wait=True) or pytest.fail("calm"))
    assert recovery.enter(can_wait=True) is not None
    with recovery._lock:
        recovery.renew()
    assert recovery.troubled
    assert recovery.enter(can_wait=True) is not None


def test_DG6_when_the_origin_recovers_two_hundred_old_answers_are_not_all_fetched_at_once() -> None:
    keys, at_once = 200, 4
    clock = ManualClock()
    chain = ReadChain(
        "warm-up", local=LocalTier(fresh=1, max_stale=600), key="{product_id}", refills=at_once, clock=clock
    )

    async def main() -> None:
        down, running, most = False, 0, 0

        @chain.answers
        async def read(product_id: int) -> str:
            nonlocal running, most
            if down:
                raise Unavailable("down")
            running += 1
            most = max(most, running)
            await pause(0.1)
            running -= 1
            return "x"

        await asyncio.gather(*(read(each) for each in range(keys)))
        clock.advance(10)
        down = True
        assert {answer.stale for answer in await asyncio.gather(*(read(each) for each in range(keys)))} == {True}
        down, most = False, 0
        peaks: list[int] = []
        left = set(range(keys))
        while left:
            most = 0
            answers = await asyncio.gather(*(read(each) for each in sorted(left)))
            left -= {each for each, answer in zip(sorted(left), answers, strict=True) if not answer.stale}
            peaks.append(most)
        assert peaks[0] == at_once
        assert all(after <= 2 * before for before, after in itertools.pairwise(peaks[:-1]))
        assert sum(peaks) == keys, "and each was fetched once"

    with measured() as counts:
        run_virtually(main())
    assert counts.count("read.refills", resource="warm-up", result="held_back") > keys


def test_DG6_of_several_processes_one_fetches_an_old_answer_anew(clock: ManualClock) -> None:
    first, server = on_lua(clock, fresh=10)
    origins = [Origin() for _ in range(5)]
    chains = [on_lua(clock, server=server, fresh=10)[0] for _ in origins]
    first(Origin().read())(1)
    clock.advance(11)
    answers: list[Any] = []

    def asked_meanwhile(product_id: int) -> str:
        for chain, origin in zip(chains, origins, strict=True):
            answers.append(answering(chain, origin.read())(product_id))
        return "new"

    assert first.answers(asked_meanwhile)(1).value == "new"
    assert [(answer.source, answer.stale) for answer in answers] == [("distributed_cache", True)] * 5
    assert [origin.asked for origin in origins] == [[]] * 5
    assert answering(chains[0], origins[0].read())(1).value == "new"


def test_DG6_the_claim_of_a_process_that_died_ends(clock: ManualClock) -> None:
    chain, _ = on_lua(clock, fresh=10, tier={"refill_lease": 5})
    origin = Origin()
    read = answering(chain, origin.read())
    read(1)
    clock.advance(11)
    origin.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        read(1)
    origin.error = None
    assert read(1).stale
    clock.advance(5)
    assert read(1).source == "origin"


def test_DG6_answers_that_came_together_do_not_end_together() -> None:
    clock = ManualClock()
    chain = ReadChain(
        "catalogue", local=LocalTier(fresh=100, max_stale=600), key="{product_id}", jitter=0.2, clock=clock
    )
    origin = Origin()
    read = chain(origin.read())
    for each in range(500):
        read(each)
    ends: list[int] = []
    clock.advance(79.9)
    for _ in range(21):
        origin.asked.clear()
        for each in range(500):
            read(each)
        ends.append(len(origin.asked))
        clock.advance(1)
    assert ends[0] == 0
    assert 400 <= sum(ends) <= 500
    assert max(ends) < 100


def test_locks_of_threads_are_free_while_the_origin_is_asked() -> None:
    chain = ReadChain("catalogue", local=LocalTier(fresh=1, max_stale=60), key="{product_id}")
    inside = threading.Event()

    def nested(product_id: int) -> Any:
        if product_id == 1:
            thread = threading.Thread(target=lambda: chain(nested)(2) and inside.set())
            thread.start()
            thread.join(20)
        return "x"

    assert chain(nested)(1) == "x"
    assert inside.is_set()
