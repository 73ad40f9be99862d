"""Stock service: takes units off the shelf for a basket and puts them back."""

from __future__ import annotations

from fastapi import FastAPI
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.orm import Session

from backstay.txn import Branch, Participant, TryRefused
from backstay.txn.fastapi import router
from examples.shop.contract import Catalogue, Item, Units
from examples.shop.places import Places, engine
from examples.shop.tables import Product, Reservation

places = Places.load()
database = engine(places.stock, in_turn=True)
app = FastAPI(title="stock")


def reserve(stock: Connection, branch: Branch, basket_id: int, units: Units) -> None:
    for product_id, quantity in units.items():
        enough = update(Product).where(Product.product_id == int(product_id), Product.on_hand >= quantity)
        if stock.execute(enough.values(on_hand=Product.on_hand - quantity)).rowcount == 0:
            raise TryRefused(f"product {product_id} is sold out")
    stock.execute(insert(Reservation).values(basket_id=basket_id, units=units, state="held"))


def sell(stock: Connection, branch: Branch, basket_id: int, units: Units) -> None:
    change_state(stock, basket_id, "sold")


def release(stock: Connection, branch: Branch, basket_id: int, units: Units) -> None:
    for product_id, quantity in units.items():
        back = update(Product).where(Product.product_id == int(product_id))
        stock.execute(back.values(on_hand=Product.on_hand + quantity))
    change_state(stock, basket_id, "released")


def change_state(stock: Connection, basket_id: int, state: str) -> None:
    stock.execute(update(Reservation).where(Reservation.basket_id == basket_id).values(state=state))


reservations = Participant("reservations", database, try_=reserve, confirm=sell, cancel=release)
app.include_router(router(reservations), prefix="/reservations")


@app.get("/catalogue")
def catalogue() -> Catalogue:
    with Session(database) as session:
        best = session.scalars(select(Product).order_by(Product.on_hand.desc(), Product.product_id).limit(20))
        return Catalogue(source="live", products=[Item(product_id=p.product_id, on_hand=p.on_hand) for p in best])
