"""Checked by mypy and pyright in strict mode, never run: pipelines keep the type of what they stand round."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, assert_type

from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.pipeline import Pipeline, Pipelines, load_pipelines, pipeline_of, placed, protect
from backstay.resilience.retry import Retry

pipeline = Pipeline("pay", Retry("pay"), CircuitBreaker("pay"), placed(Bulkhead("pay"), after="retry"))


@pipeline
def pay(order_id: int, *, tip: float = 0.0) -> str:
    return f"{order_id} {tip}"


@pipeline
async def pay_later(order_id: int) -> str:
    return str(order_id)


@pipeline
def rows(count: int) -> Iterator[int]:
    yield count


@protect("feed", limit="1/second", breaker=True, retry=3, timeout=2.0, bulkhead={"max_concurrent": 8})
async def feed(count: int) -> AsyncIterator[int]:
    yield count


class Till:
    @pipeline
    def sell(self, household_id: int) -> bytes:
        return b""

    @classmethod
    @pipeline
    def of(cls, number: int) -> Till:
        return cls()


assert_type(pay(1, tip=2.0), str)
assert_type(rows(1), Iterator[int])
assert_type(Till().sell(1), bytes)
assert_type(Till.of(1), Till)
assert_type(pipeline.call(pay, 1, tip=1.0), str)
assert_type(pipeline_of(pay), Pipeline)
later: Callable[[int], Coroutine[Any, Any, str]] = pay_later
pay("1")  # type: ignore[arg-type]
pay(1, 2.0)  # type: ignore[call-arg]
pipeline.call(pay, "1")  # type: ignore[arg-type]
Pipeline("pay", 3)  # type: ignore[arg-type]
Till().sell("1")  # type: ignore[arg-type]


async def use() -> None:
    assert_type(await pay_later(1), str)
    assert_type(await pipeline.call_async(pay_later, 1), str)
    await pay_later("1")  # type: ignore[arg-type]
    async with pipeline.admission():
        assert_type([item async for item in feed(1)], list[int])


pipelines = load_pipelines(Path("pipelines.toml"))
assert_type(pipelines, Pipelines)
assert_type(pipelines["pay"], Pipeline)
