"""Stock service: takes units off the shelf for a basket and puts them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from backstay.fastapi import install
from backstay.txn import Barrier, Branch, Participant, TryRefused
from backstay.txn.fastapi import router
from examples.shop.contract import Catalogue, Item, Units
from examples.shop.places import Places, engine
from examples.shop.tables import Product, Reservation

places = Places.load()
database = engine(places.stock, in_turn=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    Barrier.create(database)
    yield


app = FastAPI(title="stock", lifespan=lifespan)
install(app)


def reserve(session: Session, branch: Branch, basket_id: int, units: Units) -> None:
    for product_id, quantity in units.items():
        enough = update(Product).where(Product.product_id == int(product_id), Product.on_hand >= quantity)
        if session.execute(enough.values(on_hand=Product.on_hand - quantity)).rowcount == 0:
            raise TryRefused(f"product {product_id} is sold out")
    session.add(Reservation(basket_id=basket_id, units=units, state="held"))


def sell(session: Session, branch: Branch, basket_id: int, units: Units) -> None:
    session.get_one(Reservation, basket_id).state = "sold"


def release(session: Session, branch: Branch, basket_id: int, units: Units) -> None:
    for product_id, quantity in units.items():
        back = update(Product).where(Product.product_id == int(product_id))
        session.execute(back.values(on_hand=Product.on_hand + quantity))
    session.get_one(Reservation, basket_id).state = "released"


reservations = Participant("reservations", sessionmaker(database), try_=reserve, confirm=sell, cancel=release)
app.include_router(router(reservations), prefix="/reservations")


@app.get("/catalogue")
def catalogue() -> Catalogue:
    with Session(database) as session:
        best = session.scalars(select(Product).order_by(Product.on_hand.desc(), Product.product_id).limit(20))
        return Catalogue(source="live", products=[Item(product_id=p.product_id, on_hand=p.on_hand) for p in best])
