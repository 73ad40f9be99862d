"""Fences in the headers of Celery's tasks, run eagerly; a real worker is among the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery  # type: ignore[import-untyped]  # it ships no types

from backstay.errors import Misuse
from backstay.locks.guards import FenceMissing, FencingToken, MemoryFences, StaleFence, current_token, headers
from backstay.locks.guards.celery import require_fence


def token(fence: int, name: str = "order:42") -> FencingToken:
    return FencingToken(name=name, fence=fence)


def task(app: Celery, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`app.task`, with the types that it lacks."""
    decorate: Callable[[Callable[..., Any]], Any] = app.task(shared=False, **options)
    return decorate


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("shop", set_as_current=False)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield app
    app.close()


def test_F6_a_stale_task_does_not_run(app: Celery) -> None:
    ran: list[int] = []

    @task(app)
    @require_fence(MemoryFences(), "order:{order_id}")
    def pay(order_id: int) -> int:
        ran.append(current_token().fence)
        return order_id

    assert pay.apply_async((42,), headers=headers(token(5))).get() == 42
    assert pay.apply_async((), {"order_id": 42}, headers=headers(token(7))).get() == 42
    with pytest.raises(StaleFence) as stale:
        pay.apply_async((42,), headers=headers(token(6)))
    assert stale.value.highest == 7
    assert pay.apply_async((42,), headers=headers(token(7))).get() == 42
    assert ran == [5, 7, 7]


def test_a_task_without_a_fence_does_not_run(app: Celery) -> None:
    ran: list[int] = []

    @task(app)
    @require_fence(MemoryFences(), "order:{order_id}")
    def pay(order_id: int) -> None:
        ran.append(order_id)

    with pytest.raises(FenceMissing):
        pay.delay(42)
    with pytest.raises(FenceMissing):
        pay.apply_async((43,), headers=headers(token(5)))
    with pytest.raises(FenceMissing):
        pay(42)
    assert ran == []


def test_a_retry_carries_the_fence(app: Celery) -> None:
    app.conf.task_eager_propagates = False  # it would raise the retry instead of running it
    seen: list[int] = []

    @task(app, bind=True, max_retries=2)
    @require_fence(MemoryFences(), "order:{order_id}")
    def pay(self: Any, order_id: int) -> str:
        seen.append(current_token().fence)
        if len(seen) < 3:
            raise self.retry(countdown=0)
        return "paid"

    assert pay.apply_async((42,), headers=headers(token(5))).get() == "paid"
    assert seen == [5, 5, 5]


def test_functions_and_stores_are_checked_when_decorating(app: Celery) -> None:
    class Asyncio:
        async def admit(self, lease: Any) -> None: ...

    async def later(order_id: int) -> None: ...

    @task(app)
    def pay(order_id: int) -> None: ...

    for call in (
        lambda: require_fence(MemoryFences(), "order:{order_id}")(pay),
        lambda: require_fence(MemoryFences(), "order:{order_id}")(later),
        lambda: require_fence(MemoryFences(), "order:{id}")(lambda order_id: None),
        lambda: require_fence(Asyncio(), "order:{order_id}"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Misuse):
            call()
