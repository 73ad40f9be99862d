"""The pybreaker facade, fallbacks and hedges beside a pass-through."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pybreaker

from backstay.resilience.fallback import Fallback
from backstay.resilience.hedge import Hedge
from backstay.resilience.pybreaker import CircuitBreaker

from .harness import Case


def work() -> int:
    return 1


async def work_async() -> int:
    return 1


@functools.wraps(work)
def passing(*args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)


@functools.wraps(work_async)
async def passing_async(*args: Any, **kwargs: Any) -> Any:
    return await work_async(*args, **kwargs)


def cases() -> Iterator[Case]:
    yield Case(name="A/A: pass-through beside itself", floor=passing, ours=passing, target=1.01, clock="cpu")
    yield Case(
        name="pybreaker facade, closed", floor=passing, ours=CircuitBreaker()(work), clock="cpu",
        peer=pybreaker.CircuitBreaker()(work), peer_name="pybreaker", peer_target=0.25,
    )  # fmt: skip
    yield Case(
        name="pybreaker facade, closed, async", floor=passing_async, ours=CircuitBreaker()(work_async), clock="cpu"
    )
    yield Case(name="fallback, not needed", floor=passing, ours=Fallback("bench", answer=1)(work), clock="cpu")
    yield Case(
        name="fallback, not needed, async",
        floor=passing_async,
        ours=Fallback("bench", answer=1)(work_async),
        clock="cpu",
    )
    yield Case(
        name="fallback, answer kept", floor=passing, ours=Fallback.cached("bench-kept", max_stale=60)(work), clock="cpu"
    )
    yield Case(
        name="hedge, not needed, async",
        floor=passing_async,
        ours=Hedge("bench", after=1, idempotent=True)(work_async),
        clock="cpu",
    )
