"""Redis killed and frozen under shared breakers: they are local, calls never notice, and they meet again (CB-9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from backstay.errors import OutcomeUnknown, Unavailable
from backstay.resilience.circuit_breaker import CircuitBreaker, State
from backstay.resilience.circuit_breaker.shared import SharedBreakers
from backstay.testing import ManualClock
from servers.server import Server
from unit.resilience.breaker_ways import by_function, run

BREAK = {"killed": Server.kill, "frozen": Server.pause}
MEND = {"killed": Server.start, "frozen": Server.unpause}

UNHEARD = {"killed": Unavailable, "frozen": OutcomeUnknown}


def instance(url: str) -> tuple[SharedBreakers, CircuitBreaker, ManualClock]:
    clock = ManualClock()
    shared = SharedBreakers.connect(url, interval=None, ttl=30.0, budget=0.3)
    return (
        shared,
        shared.join(CircuitBreaker("payments", consecutive=2, open_for=10, open_jitter=0, clock=clock)),
        clock,
    )


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_CB9_without_redis_a_breaker_is_local_and_with_it_again_shared(
    own_redis: Callable[[], Server], how: str
) -> None:
    server = own_redis()
    both = [instance(server.url) for _ in range(2)]
    for shared, _, _ in both:
        assert shared.refresh()
    shared, breaker, clock = both[0]
    call = by_function(breaker)
    assert run(call, "--+") == "--x"
    assert shared.refresh()
    clock.advance(10)
    assert run(call, "+") == "x"  # in reach, it waits for a permit
    BREAK[how](server)
    began = time.monotonic()
    assert not shared.refresh()
    assert time.monotonic() - began < 1.0  # the budget, and the driver's own clean-up
    assert run(call, "+++") == "+++"  # out of reach, it probes by itself
    assert breaker.state is State.CLOSED
    with pytest.raises(UNHEARD[how]):
        shared.override("payments", State.DISABLED)
    MEND[how](server)
    until = time.monotonic() + 20
    while not shared.refresh():
        assert time.monotonic() < until
        time.sleep(0.05)
    shared.release(
        "payments"
    )  # a frozen server did hear of the override: that was unknown, and is settled by saying so
    assert shared.refresh()
    assert run(call, "--") == "--"
    assert shared.refresh()
    assert shared.view("payments").open >= 1
    for each, _, _ in both:
        each.close()


def test_CB9_a_frozen_redis_delays_no_call_and_no_event_loop(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    shared = SharedBreakers.connect(server.url, interval=0.05, ttl=5.0, budget=0.5)
    breaker = shared.join(CircuitBreaker("payments", consecutive=2))

    @breaker
    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> float:
        worst, until = 0.0, time.monotonic() + 1.2
        while (began := time.monotonic()) < until:
            await work()
            worst = max(worst, time.monotonic() - began)
        return worst

    time.sleep(0.2)
    server.pause()
    try:
        worst = asyncio.run(main())
    finally:
        server.unpause()
    assert worst < 0.1
    assert breaker.state is State.CLOSED
    shared.close()
