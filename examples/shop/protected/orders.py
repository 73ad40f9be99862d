"""Orders service: the shop's front door. A purchase reserves stock, charges, and records the order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from sqlalchemy import select

from backstay.errors import Unavailable
from backstay.fastapi import install
from backstay.locks import Locks
from backstay.resilience import Switches, protect
from backstay.sharding import ShardedSession
from backstay.txn import AlreadyConfirmed, Settings, TransactionManager
from examples.shop.contract import Catalogue, Purchase, Receipt
from examples.shop.places import Places
from examples.shop.protected.recording import create_barriers, layout, record_order
from examples.shop.tables import Order

places = Places.load()
transactions = TransactionManager.connect(
    places.journal,
    actions=[record_order],
    hosts={"stock": places.stock_service, "payments": places.payments_service},
    settings=Settings(timeout=2.0, deadline=10.0, lease=3.0),
)
locks = Locks.connect(places.locks, namespace="shop")
switches = Switches.connect(places.switches)
static_catalogue = Catalogue.model_validate_json(Path(__file__).with_name("catalogue.json").read_bytes())
stock = httpx.Client(base_url=places.stock_service, timeout=2.0)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    create_barriers()
    transactions.start()  # finishes at once what a killed predecessor left
    yield
    transactions.close()


app = FastAPI(title="orders", lifespan=lifespan)
install(app)


@app.post("/purchases", status_code=201)
@protect("purchase", limit=places.rate, store=places.limits, namespace="shop")
@locks.guard("basket:{purchase.basket_id}", ttl=10, wait=4)
def purchase(purchase: Purchase) -> Receipt:
    basket = {"basket_id": purchase.basket_id}
    receipt = Receipt(basket_id=purchase.basket_id, cents=purchase.cents)
    try:
        with transactions.tcc(key=f"basket:{purchase.basket_id}") as tx:
            tx.call("http://stock/reservations", **basket, units=purchase.units)
            tx.call("http://payments/charges", **basket, household_id=purchase.household_id, cents=purchase.cents)
            tx.call(record_order, **purchase.model_dump(mode="json"))
            tx.result = receipt.model_dump()
    except AlreadyConfirmed as before:  # a repeated request gets the first answer again
        return Receipt.model_validate(before.result)
    return receipt


@app.get("/orders/{household_id}")
def orders(household_id: int) -> list[Receipt]:
    with ShardedSession(layout) as session:
        placed = select(Order).where(Order.household_id == household_id, Order.state == "placed")
        query = placed.order_by(Order.basket_id.desc()).limit(10)
        return [Receipt(basket_id=order.basket_id, cents=order.cents) for order in session.scalars(query)]


@app.get("/catalogue")
@switches.degradable("catalogue", fallback=static_catalogue)
def catalogue() -> Catalogue:
    try:
        return Catalogue.model_validate_json(stock.get("/catalogue").raise_for_status().content)
    except httpx.HTTPError as error:
        raise Unavailable("the catalogue is not available") from error
