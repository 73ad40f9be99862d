"""The guard on functions, methods and views, under each recipe."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any

import flask
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backstay.errors import Misuse, NotAcquired
from backstay.locks import AsyncLocks, Locks, Permits, ReadWriteLease, current_lease


@pytest.fixture
def locks() -> Locks:
    return Locks.connect(f"memory://{uuid.uuid4().hex}")


def in_thread(work: Any) -> list[Any]:
    """Run `work` in another thread; return what it returned or raised."""
    seen: list[Any] = []

    def run() -> None:
        try:
            seen.append(work())
        except Exception as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10.0)
    return seen


def test_a_reentrant_guard_may_call_itself_and_others_with_its_key(locks: Locks) -> None:
    @locks.guard("order:{order_id}", reentrant=True, wait=0.0)
    def pay(order_id: int, rest: int = 2) -> list[int]:
        mine = current_lease().fence
        return [mine, *(pay(order_id, rest - 1) if rest else ship(order_id)), mine]

    @locks.guard("order:{order_id}", reentrant=True, wait=0.0)
    def ship(order_id: int) -> list[int]:
        (refused,) = in_thread(lambda: ship(order_id))
        assert isinstance(refused, NotAcquired)
        return [current_lease().fence]

    fences = pay(7)
    assert len(fences) == 7
    assert len(set(fences)) == 1
    assert pay(7)[0] > fences[0]


def test_a_reentrant_guard_serves_async_def() -> None:
    locks = AsyncLocks.connect(f"memory://{uuid.uuid4().hex}")

    @locks.guard("order:{order_id}", reentrant=True, wait=0.0)
    async def pay(order_id: int, rest: int = 2) -> list[int]:
        mine = current_lease().fence
        if not rest:
            with pytest.raises(NotAcquired):
                await asyncio.create_task(pay(order_id))  # another task
        return [mine, *(await pay(order_id, rest - 1) if rest else [])]

    async def main() -> None:
        fences = await pay(7)
        assert len(fences) == 3
        assert len(set(fences)) == 1

    asyncio.run(main())


def test_a_guard_with_a_side_reads_beside_others_and_writes_alone(locks: Locks) -> None:
    @locks.guard("catalogue:{shop}", side="read", wait=0.0)
    def look(shop: str, then: Any = None) -> Any:
        lease = current_lease()
        assert isinstance(lease, ReadWriteLease)
        return then() if then else f"seen, writes: {lease.writes}"

    @locks.guard("catalogue:{shop}", side="write", wait=0.0)
    def change(shop: str, then: Any = None) -> Any:
        return then() if then else "changed"

    assert look("a", lambda: in_thread(lambda: look("a"))) == ["seen, writes: False"]
    assert isinstance(look("a", lambda: in_thread(lambda: change("a")))[0], NotAcquired)
    assert isinstance(change("a", lambda: in_thread(lambda: look("a")))[0], NotAcquired)
    assert change("a", lambda: look("a")) == "seen, writes: True"  # nested in one thread
    with pytest.raises(Misuse, match="would wait for itself"):
        look("a", lambda: change("a"))
    assert change("b") == "changed"


def test_a_guard_with_permits_lets_so_many_in(locks: Locks) -> None:
    @locks.guard("gpu:{host}", permits=2, wait=0.0)
    def train(host: str, inside: int = 0) -> list[Any]:
        assert isinstance(current_lease(), Permits)
        return in_thread(lambda: train(host, inside + 1))

    (second,) = train("a")
    assert isinstance(second[0], NotAcquired)


@pytest.mark.parametrize(
    "options",
    [{"reentrant": True, "side": "read"}, {"reentrant": True, "permits": 2}, {"side": "read", "permits": 2}],
)
def test_one_recipe_for_one_guard(locks: Locks, options: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match="choose one"):
        locks.guard("x", **options)


def test_options_are_checked_when_decorating(locks: Locks) -> None:
    for options in ({"side": "both"}, {"ttl": 0}, {"max_hold": 0}, {"permits": 0}, {"permits": True}):
        with pytest.raises(Misuse):
            locks.guard("x", **options)


def test_methods_static_methods_and_class_methods(locks: Locks) -> None:
    class Shop:
        name = "corner"

        @locks.guard("sell:{product}", wait=0.0)
        def sell(self, product: str) -> str:
            return f"{self.name} {current_lease().name}"

        @staticmethod
        @locks.guard("price:{product}", wait=0.0)
        def price(product: str) -> str:
            return current_lease().name

        @classmethod
        @locks.guard("open:{place}", wait=0.0)
        def open(cls, place: str) -> str:
            return f"{cls.name} {current_lease().name}"

    assert Shop().sell("tea") == "corner sell:tea"
    assert Shop.sell(Shop(), product="tea") == "corner sell:tea"
    assert Shop.price("tea") == Shop().price(product="tea") == "price:tea"
    assert Shop.open("here") == Shop().open(place="here") == "corner open:here"


def test_a_view_of_flask(locks: Locks) -> None:
    app = flask.Flask("shop")

    @app.get("/orders/<int:order_id>")
    @locks.guard("order:{order_id}", wait=0.0)
    def order(order_id: int) -> str:
        return f"{current_lease().name} {order_id}"

    assert app.test_client().get("/orders/7").text == "order:7 7"


def test_views_of_fastapi_in_both_colours(locks: Locks) -> None:
    app = FastAPI()

    @app.get("/orders/{order_id}")
    @locks.guard("order:{order_id}", wait=0.0)
    async def order(order_id: int, note: str = "") -> dict[str, Any]:
        return {"lock": current_lease().name, "id": order_id, "note": note}

    @app.get("/plain/{order_id}")
    @locks.guard("order:{order_id}", wait=0.0)
    def plain(order_id: int) -> dict[str, Any]:
        return {"lock": current_lease().name, "id": order_id}

    with TestClient(app) as client:
        assert client.get("/orders/7?note=x").json() == {"lock": "order:7", "id": 7, "note": "x"}
        assert client.get("/plain/7").json() == {"lock": "order:7", "id": 7}
        assert client.get("/orders/seven").status_code == 422
