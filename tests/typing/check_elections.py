"""Checked by mypy and pyright in strict mode, never run: elections, singletons, jobs that run once, stock."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from backstay.locks import (
    AsyncLatch,
    AsyncLeadership,
    AsyncLocks,
    AsyncPortion,
    AsyncSingleton,
    Barrier,
    Latch,
    Leader,
    Leadership,
    Locks,
    News,
    Portion,
    Singleton,
)

locks = Locks.connect("memory://")
tasks = AsyncLocks.connect("memory://")


def lead(leadership: Leadership) -> str:
    return str(leadership.term)


async def lead_async(leadership: AsyncLeadership) -> int:
    return leadership.term


assert_type(locks.election("x").run(lead), str | None)
assert_type(locks.election("x").leader(), Leader | None)
assert_type(list(locks.election("x").observe()), list[News])
assert_type(locks.singleton("x")(lead), Singleton)
assert_type(tasks.singleton("x")(lead_async), AsyncSingleton[int])
assert_type(locks.latch("x", 3), Latch)
assert_type(locks.barrier("x", 3), Barrier)
assert_type(tasks.latch("x", 3), AsyncLatch)
assert_type(locks.stock("x").take(), Portion)

locks.election("x").run(lead_async)  # type: ignore[arg-type] # a thread runs plain functions


@locks.once("nightly:{day}")
def nightly(day: int) -> float:
    return day / 2


@locks.once("nightly:{day}")
async def nightly_async(day: int) -> float:
    return day / 2


assert_type(nightly(day=1), float | None)
plain: Callable[[int], float | None] = nightly
coloured: Callable[[int], Coroutine[Any, Any, float | None]] = nightly_async
nightly("monday")  # type: ignore[arg-type] # the arguments are the job's own


async def awaited() -> None:
    assert_type(await nightly_async(1), float | None)
    assert_type(await tasks.election("x").run(lead_async), int | None)
    assert_type(await tasks.stock("x").take(2), AsyncPortion)
    async for piece in tasks.election("x").observe():
        assert_type(piece, News)
