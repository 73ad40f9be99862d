"""What the services answer, over real HTTP: the same contract for both shops, and what the protected one adds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from sqlalchemy import func, select

from examples.shop.places import Places, opened
from examples.shop.replay.audit import audit
from examples.shop.replay.journal import unfinished
from examples.shop.replay.opening import set_catalogue
from examples.shop.replay.run import Shop
from examples.shop.tables import Charge, Product

Run = Callable[..., AbstractAsyncContextManager[Any]]
SHOPS: tuple[Shop, ...] = ("naive", "protected")


def basket(basket_id: int = 1, *, household_id: int = 7, quantity: int = 1, cents: int = 100) -> dict[str, Any]:
    lines = [{"product_id": 1, "quantity": quantity, "cents": cents}]
    return {"basket_id": basket_id, "household_id": household_id, "lines": lines}


def on_hand(places: Places) -> int:
    with opened(places.stock) as database, database.connect() as connection:
        return connection.scalars(select(Product.on_hand).where(Product.product_id == 1)).one()


def charges(places: Places) -> int:
    with opened(places.payments) as database, database.connect() as connection:
        return connection.scalars(select(func.count(Charge.id))).one()


async def settled(places: Places) -> None:
    async with asyncio.timeout(20):
        while unfinished(places):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", SHOPS)
def test_a_purchase_a_refusal_and_a_senseless_basket(running: Run, kind: Shop) -> None:
    async def main() -> None:
        async with running(kind) as shop:
            bought = await shop.client.post("/purchases", json=basket(1))
            assert (bought.status_code, bought.json()) == (201, {"basket_id": 1, "cents": 100, "state": "placed"})
            again = await shop.client.post("/purchases", json=basket(1))
            assert (again.status_code, again.json()) == (201, bought.json())

            sold_out = await shop.client.post("/purchases", json=basket(2, quantity=50))
            assert "product 1 is sold out" in sold_out.text
            assert sold_out.status_code == 409
            poor = await shop.client.post("/purchases", json=basket(3, household_id=8))
            assert "household 8 cannot pay 100 cents" in poor.text
            assert 400 <= poor.status_code < 500

            negative = await shop.client.post("/purchases", json=basket(4, quantity=-1))
            assert negative.status_code == 422
            assert "greater than or equal to 0" in negative.text
            await settled(shop.places)
            books = audit(shop.places)
            assert (books.violations, books.orders, books.units_sold) == (0, 1, 1)
            assert on_hand(shop.places) == 4
            listed = await shop.client.get("/orders/7")
            assert listed.json() == [bought.json()]

    asyncio.run(main())


def test_a_customer_who_asks_twice_at_the_same_time_buys_once(running: Run) -> None:
    async def main() -> None:
        async with running("protected") as shop:
            posts = [shop.client.post("/purchases", json=basket(1)) for _ in range(6)]
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {201}
            assert charges(shop.places) == 1
            assert audit(shop.places).violations == 0

    asyncio.run(main())


def test_more_than_the_limit_is_refused_at_once_and_changes_nothing(running: Run) -> None:
    async def main() -> None:
        async with running("protected", rate="1/minute;burst=3") as shop:
            posts = [shop.client.post("/purchases", json=basket(n, cents=1)) for n in range(1, 9)]
            answers = await asyncio.gather(*posts)
            refused = [answer for answer in answers if answer.status_code == 429]
            assert len(refused) == 5
            assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
            books = audit(shop.places)
            assert (books.violations, books.orders) == (0, 3)

    asyncio.run(main())


def test_the_catalogue_comes_from_a_static_list_when_switched_off_or_when_stock_is_down(running: Run) -> None:
    async def source(shop: Any) -> str:
        answer = await shop.client.get("/catalogue")
        assert answer.status_code == 200
        assert answer.json()["products"]
        return str(answer.json()["source"])

    async def becomes(shop: Any, wanted: str) -> None:
        async with asyncio.timeout(10):
            while await source(shop) != wanted:
                await asyncio.sleep(0.05)

    async def main() -> None:
        async with running("protected") as shop:
            assert await source(shop) == "live"
            set_catalogue(shop.folder, live=False)
            await becomes(shop, "static")
            set_catalogue(shop.folder, live=True)
            await becomes(shop, "live")
            await shop.services["stock"].stop()
            assert await source(shop) == "static"

    asyncio.run(main())


def test_without_payments_a_purchase_fails_and_is_undone_at_once(running: Run) -> None:
    async def main() -> None:
        async with running("protected") as shop:
            await shop.services["payments"].stop()
            answer = await shop.client.post("/purchases", json=basket(1))
            assert answer.status_code == 503
            assert unfinished(shop.places) == 0, "the charge was certainly never sent"
            assert on_hand(shop.places) == 5

    asyncio.run(main())


def test_a_charge_without_an_answer_is_undone_once_payments_answer_again(running: Run) -> None:
    async def main() -> None:
        async with running("protected") as shop:
            payments = shop.services["payments"].pid
            os.kill(payments, signal.SIGSTOP)
            answer = await shop.client.post("/purchases", json=basket(1))
            assert answer.status_code == 503
            assert unfinished(shop.places) == 1, "the charge may have arrived, so its cancel must"
            os.kill(payments, signal.SIGCONT)
            await settled(shop.places)
            assert on_hand(shop.places) == 5
            assert audit(shop.places).violations == 0

    asyncio.run(main())
