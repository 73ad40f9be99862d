"""Stock service: takes units off the shelf for a basket and puts them back."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.shop.contract import Catalogue, Item, Units
from examples.shop.places import Places, engine
from examples.shop.tables import Product, Reservation

places = Places.load()
database = engine(places.stock)
app = FastAPI(title="stock")


class Reserve(BaseModel):
    basket_id: int
    units: Units


class Release(BaseModel):
    basket_id: int


@app.post("/reservations")
def reserve(wanted: Reserve) -> dict[str, str]:
    with Session(database) as session:
        reservation = session.get(Reservation, wanted.basket_id)
        if reservation is not None and reservation.state == "held":
            return {"state": "held"}  # a repeated request
        products = session.scalars(select(Product).where(Product.product_id.in_(wanted.units)))
        shelf = {product.product_id: product for product in products}
        for product_id, quantity in wanted.units.items():
            if product_id not in shelf or shelf[product_id].on_hand < quantity:
                raise HTTPException(409, f"product {product_id} is sold out")
        for product_id, quantity in wanted.units.items():
            shelf[product_id].on_hand -= quantity
        units = {str(product_id): quantity for product_id, quantity in wanted.units.items()}
        session.merge(Reservation(basket_id=wanted.basket_id, units=units, state="held"))
        session.commit()
    return {"state": "held"}


@app.post("/releases")
def release(given_up: Release) -> dict[str, str]:
    with Session(database) as session:
        reservation = session.get(Reservation, given_up.basket_id)
        if reservation is not None and reservation.state == "held":
            for product_id, quantity in reservation.units.items():
                product = session.get_one(Product, int(product_id))
                product.on_hand += quantity
            reservation.state = "released"
            session.commit()
    return {"state": "released"}


@app.get("/catalogue")
def catalogue() -> Catalogue:
    with Session(database) as session:
        best = session.scalars(select(Product).order_by(Product.on_hand.desc(), Product.product_id).limit(20))
        return Catalogue(source="live", products=[Item(product_id=p.product_id, on_hand=p.on_hand) for p in best])
