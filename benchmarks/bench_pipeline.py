"""The default pipeline of six policies beside a pass-through, in both colours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from backstay.resilience import protect
from backstay.resilience.pipeline import Pipeline, pipeline_of

from .harness import Case

PLENTY = "1000000000/second"


def _work() -> int:
    return 1


async def _work_async() -> int:
    return 1


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


def cases() -> Iterator[Case]:
    """Targets are ratios: 2.5 us beside a pass-through of 84 ns, and 4.5 us beside one of 167 ns."""
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    yield Case(name="pipeline, empty (measured only)", floor=floor, ours=Pipeline("bench-none")(_work), clock="cpu")
    blocking = protect("bench-six", limit=PLENTY, deadline=60, retry=3, breaker=True, bulkhead=8)(_work)
    yield Case(name="pipeline, six policies", floor=floor, ours=blocking, target=2500 / 84, clock="cpu")
    asynchronous = protect(
        "bench-six-async", limit=PLENTY, timeout=60, retry=3, breaker=True, attempt_timeout=30, bulkhead=8
    )(_work_async)
    yield Case(
        name="pipeline, six policies, async", floor=floor_async, ours=asynchronous, target=4500 / 167, clock="cpu"
    )
    pipeline = pipeline_of(blocking)
    yield Case(name="pipeline, six policies, call()", floor=floor, ours=lambda: pipeline.call(_work), clock="cpu")
    block = protect("bench-block", limit=PLENTY, breaker=True, bulkhead=8)(_work)
    admitting = pipeline_of(block)

    def with_block() -> None:
        with admitting.admission():
            pass

    yield Case(name="pipeline, a block of three policies", floor=floor, ours=with_block, clock="cpu")
