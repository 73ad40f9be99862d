"""Circuit breakers beside a pass-through, and beside circuitbreaker and pybreaker."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import circuitbreaker  # type: ignore[import-untyped]  # has no types
import pybreaker

from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen

from .harness import Case

KINDS: dict[str, tuple[dict[str, Any], float, float]] = {
    "consecutive": ({"consecutive": 5}, 1.6, 1.3),
    "10 s window": ({"window": 10}, 2.5, 1.7),
    "10 s window and slow calls": ({"window": 10, "slow_rate": 0.5, "slow_after": 1.0}, 3.3, 2.2),
    "last 100 calls": ({"last_calls": 100}, 2.5, 1.7),
}
"""Settings, and the targets of a blocking and of an asyncio call."""


class Down(Exception):
    pass


def cases() -> Iterator[Case]:
    yield from _closed()
    yield from _open()
    yield from _threads()


def _work() -> int:
    return 1


async def _work_async() -> int:
    return 1


def _fail() -> None:
    raise Down


def _passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passing(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return passing


def _passing_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def passing(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return passing


def _closed() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    peers: dict[str, Callable[..., Any]] = {
        "circuitbreaker": circuitbreaker.CircuitBreaker(failure_threshold=5, name="bench-peer")(_work),
        "pybreaker": pybreaker.CircuitBreaker(fail_max=5)(_work),
    }
    peer_async: Any = circuitbreaker.CircuitBreaker(failure_threshold=5, name="bench-peer-async")(_work_async)
    for number, (kind, (options, target, target_async)) in enumerate(KINDS.items()):
        breaker = CircuitBreaker(f"bench-{kind}", **options)
        name = "pybreaker" if number == 3 else "circuitbreaker"
        yield Case(
            name=f"breaker closed, {kind}", floor=floor, ours=breaker(_work), target=target, clock="cpu",
            peer=peers[name], peer_name=name, peer_target=0.62,
        )  # fmt: skip
        yield Case(
            name=f"breaker closed, {kind}, async", floor=floor_async, ours=breaker(_work_async), target=target_async,
            clock="cpu", peer=peer_async, peer_name="circuitbreaker",
        )  # fmt: skip


def _catching(function: Callable[..., Any], refusals: tuple[type[Exception], ...]) -> Callable[[], None]:
    def catching() -> None:
        try:
            function()
        except refusals:
            return

    return catching


def _open() -> Iterator[Case]:
    ours = CircuitBreaker("bench-open")
    ours.open()
    theirs = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600, name="bench-peer-open")
    broken = theirs(_fail)
    _catching(broken, (Down,))()
    yield Case(
        name="breaker open, beside raise in a called function and catch",
        floor=_catching(_passing(_fail), (Down,)),
        ours=_catching(ours(_work), (CircuitOpen,)),
        target=3.0, clock="cpu",
        peer=_catching(broken, (circuitbreaker.CircuitBreakerError,)), peer_name="circuitbreaker", peer_target=0.75,
    )  # fmt: skip


def _crowd(function: Callable[[], Any], count: int = 8) -> Callable[[int], float]:
    """Return what spreads calls of a millisecond over threads."""

    def run(calls: int) -> float:
        def work() -> None:
            for _ in range(max(1, calls // count)):
                function()

        threads = [threading.Thread(target=work) for _ in range(count)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    return run


def _threads() -> Iterator[Case]:
    def slow() -> None:
        time.sleep(0.001)

    yield Case(
        name="breaker, 8 threads of 1 ms",
        floor=_crowd(_passing(slow)), ours=_crowd(CircuitBreaker("bench-threads")(slow)), target=1.02, timed=True,
        peer=_crowd(pybreaker.CircuitBreaker(fail_max=5)(slow)), peer_name="pybreaker", batch_seconds=0.05,
    )  # fmt: skip
