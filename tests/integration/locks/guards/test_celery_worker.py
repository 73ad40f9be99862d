"""Fences in real messages: Celery's in-memory broker, and a worker that takes them from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, signals  # type: ignore[import-untyped]  # it ships no types
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]
from sqlalchemy import create_engine

from backstay.locks import Locks
from backstay.locks.guards import HEADER, FencingToken, current_token, headers
from backstay.locks.guards.celery import require_fence, send_fences
from backstay.locks.guards.sqlalchemy import SqlFences


class Shop:
    """An application with one guarded task, and what it did."""

    def __init__(self, app: Celery, fences: SqlFences) -> None:
        self.app = app
        self.ran: list[int] = []
        self.messages: list[dict[str, Any]] = []
        self.retries = 0
        self.order = 0
        decorate: Callable[[Callable[..., Any]], Any] = app.task(bind=True, max_retries=3, shared=False)

        @decorate
        @require_fence(fences, "order:{order_id}")
        def pay(task: Any, order_id: int) -> int:
            self.ran.append(current_token().fence)
            if self.retries:
                self.retries -= 1
                raise task.retry(countdown=0)
            return order_id

        self.pay = pay


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
    app.conf.broker_transport_options = {"polling_interval": 0.01}
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('celery')}/fences.db")
    shop = Shop(app, SqlFences(engine))

    def see(sender: Any = None, headers: Any = None, **rest: Any) -> None:
        shop.messages.append(dict(headers))

    signals.after_task_publish.connect(see, weak=False, dispatch_uid="seen by this test")
    with start_worker(app, perform_ping_check=False, shutdown_timeout=20):
        yield shop
    signals.after_task_publish.disconnect(dispatch_uid="seen by this test")
    app.close()
    engine.dispose()


@pytest.fixture
def shop(running: Shop) -> Shop:
    """The same worker for each test, with orders of its own."""
    running.ran.clear()
    running.messages.clear()
    running.order += 1
    return running


def token(shop: Shop, fence: int) -> FencingToken:
    return FencingToken(name=f"order:{shop.order}", fence=fence)


def test_F6_a_task_that_waited_too_long_does_not_run(shop: Shop) -> None:
    assert shop.pay.apply_async((shop.order,), headers=headers(token(shop, 5))).get(timeout=10) == shop.order
    assert shop.messages[0][HEADER] == f"1;order%3A{shop.order};5"
    assert shop.pay.apply_async((shop.order,), headers=headers(token(shop, 7))).get(timeout=10) == shop.order
    with pytest.raises(Exception, match="fence 7") as stale:
        shop.pay.apply_async((shop.order,), headers=headers(token(shop, 6))).get(timeout=10)
    assert type(stale.value).__name__ == "StaleFence"
    with pytest.raises(Exception, match="send the header"):
        shop.pay.delay(shop.order).get(timeout=10)
    assert shop.ran == [5, 7]


def test_a_retry_is_another_message_with_the_same_fence(shop: Shop) -> None:
    shop.retries = 2
    assert shop.pay.apply_async((shop.order,), headers=headers(token(shop, 5))).get(timeout=20) == shop.order
    assert shop.ran == [5, 5, 5]
    assert [message[HEADER] for message in shop.messages] == [f"1;order%3A{shop.order};5"] * 3


def test_F1_tasks_sent_under_a_guard_carry_its_fence_by_themselves(shop: Shop) -> None:
    send_fences(app=shop.app)
    send_fences(app=shop.app)  # twice is once
    fences: list[int] = []
    with Locks.connect("memory://", namespace="celery") as locks:

        @locks.guard("order:{order_id}")
        def buy(order_id: int) -> Any:
            from backstay.locks import current_lease

            fences.append(current_lease().fence)
            return shop.pay.delay(order_id)

        assert buy(shop.order).get(timeout=10) == shop.order
        assert buy(shop.order).get(timeout=10) == shop.order
    assert shop.ran == fences
    assert fences[1] > fences[0]
    with pytest.raises(Exception, match="send the header"):
        shop.pay.delay(shop.order).get(timeout=10)  # outside of the guard
