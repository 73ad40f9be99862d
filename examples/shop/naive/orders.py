"""Orders service: the shop's front door. A purchase reserves stock, charges, and records the order."""

from __future__ import annotations

import logging
import time
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from examples.shop.contract import Catalogue, Purchase, Receipt
from examples.shop.places import Places, engine
from examples.shop.tables import Order, OrderLine

log = logging.getLogger("orders")
places = Places.load()
databases = [engine(url) for url in places.orders]
stock = httpx.Client(base_url=places.stock_service, timeout=2.0)
payments = httpx.Client(base_url=places.payments_service, timeout=2.0)
app = FastAPI(title="orders")


def shard(household_id: int) -> Engine:
    return databases[household_id % len(databases)]


def call(service: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """POST with one retry; what the service refuses is passed on to the customer."""
    try:
        answer = service.post(path, json=body)
    except httpx.TransportError:
        time.sleep(0.2)
        try:
            answer = service.post(path, json=body)
        except httpx.TransportError as error:
            raise HTTPException(503, "please try again later") from error
    if answer.is_error:
        raise HTTPException(answer.status_code, answer.text)


def undo(service: httpx.Client, path: str, purchase: Purchase) -> None:
    """Best effort: a failing undo must not hide the error that led to it."""
    try:
        call(service, path, {"basket_id": purchase.basket_id})
    except HTTPException:
        log.exception("could not undo basket %s", purchase.basket_id)


@app.post("/purchases", status_code=201)
def purchase(purchase: Purchase) -> Receipt:
    basket = {"basket_id": purchase.basket_id}
    if recorded(purchase):
        return Receipt(basket_id=purchase.basket_id, cents=purchase.cents)  # a repeated request
    undo_by: list[tuple[httpx.Client, str]] = []
    try:
        undo_by.append((stock, "/releases"))
        call(stock, "/reservations", {**basket, "units": purchase.units})
        undo_by.append((payments, "/refunds"))
        call(payments, "/charges", {**basket, "household_id": purchase.household_id, "cents": purchase.cents})
        record(purchase)
    except Exception:
        for service, path in reversed(undo_by):
            undo(service, path, purchase)
        raise
    return Receipt(basket_id=purchase.basket_id, cents=purchase.cents)


def recorded(purchase: Purchase) -> bool:
    with Session(shard(purchase.household_id)) as session:
        return session.get(Order, (purchase.household_id, purchase.basket_id)) is not None


def record(purchase: Purchase) -> None:
    key = {"household_id": purchase.household_id, "basket_id": purchase.basket_id}
    with Session(shard(purchase.household_id)) as session:
        session.add(Order(**key, cents=purchase.cents, state="placed"))
        session.add_all(OrderLine(**key, **line.model_dump()) for line in purchase.bought)
        session.commit()


@app.get("/orders/{household_id}")
def orders(household_id: int) -> list[Receipt]:
    with Session(shard(household_id)) as session:
        query = select(Order).where(Order.household_id == household_id).order_by(Order.basket_id.desc()).limit(10)
        return [Receipt(basket_id=order.basket_id, cents=order.cents) for order in session.scalars(query)]


@app.get("/catalogue")
def catalogue() -> Catalogue:
    try:
        return Catalogue.model_validate_json(stock.get("/catalogue").raise_for_status().content)
    except httpx.HTTPError as error:
        raise HTTPException(503, "the catalogue is not available") from error
