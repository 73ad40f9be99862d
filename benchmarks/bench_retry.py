"""Retries and timeouts of calls that succeed at once, beside a pass-through and beside peers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tenacity

from backstay.resilience.retry import Retry
from backstay.resilience.timeout import AttemptTimeout, Deadline, Timeout

from .harness import Case


def cases() -> Iterator[Case]:
    yield from _retries()
    yield from _timeouts()


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


def _retries() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    by_tenacity = tenacity.retry(stop=tenacity.stop_after_attempt(3))
    yield Case(
        name="retry, no failure", floor=floor, ours=Retry("bench")(_work), target=1.5, clock="cpu",
        peer=by_tenacity(_work), peer_name="tenacity", peer_target=0.05,
        batch_seconds=0.003,  # the peer takes a hundred times as long
    )  # fmt: skip
    yield Case(
        name="retry, no failure, async", floor=floor_async, ours=Retry("bench")(_work_async), target=1.8, clock="cpu",
        peer=by_tenacity(_work_async), peer_name="tenacity", peer_target=0.05,
        batch_seconds=0.003,  # the peer takes a hundred times as long
    )  # fmt: skip
    delayed = Retry("bench", stop=tenacity.stop_after_delay(5))(_work)
    yield Case(
        name="retry, no failure, tenacity's stop", floor=floor, ours=delayed, clock="cpu",
        peer=by_tenacity(_work), peer_name="tenacity", batch_seconds=0.003,
    )  # fmt: skip
    failing = Retry("bench", attempts=2, first_wait=0, longest_wait=0, budget=None, sleep=_no_sleep)
    theirs = tenacity.retry(stop=tenacity.stop_after_attempt(2), sleep=_no_sleep)
    yield Case(
        name="retry, one failure", floor=floor, ours=failing(_flaky()), clock="cpu",
        peer=theirs(_flaky()), peer_name="tenacity", batch_seconds=0.0005,
    )  # fmt: skip


def _no_sleep(seconds: float) -> None:
    """Take no time."""


def _flaky() -> Callable[[], int]:
    fails = False

    def flaky() -> int:
        nonlocal fails
        fails = not fails
        if fails:
            raise LookupError
        return 1

    return flaky


def _timeouts() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    yield Case(name="deadline", floor=floor, ours=Deadline("bench", 60)(_work), clock="cpu")
    yield Case(
        name="timeout, async", floor=floor_async, ours=Timeout("bench", 60)(_work_async), clock="cpu",
        peer=_by_asyncio, peer_name="asyncio.timeout", peer_target=0.4,
    )  # fmt: skip
    both = Timeout("bench", 60)(AttemptTimeout("bench", 30)(_work_async))
    yield Case(
        name="timeout in all and an attempt, async", floor=floor_async, ours=both, clock="cpu",
        peer=_by_asyncio_twice, peer_name="asyncio.timeout twice", peer_target=0.4,
    )  # fmt: skip


async def _by_asyncio() -> int:
    async with asyncio.timeout(60):
        return await _work_async()


async def _by_asyncio_twice() -> int:
    async with asyncio.timeout(60), asyncio.timeout(30):
        return await _work_async()
