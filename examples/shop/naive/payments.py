"""Payments service: takes money from a household's account and gives it back."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.shop.places import Places, engine
from examples.shop.tables import Account, Charge

places = Places.load()
database = engine(places.payments)
app = FastAPI(title="payments")


class Payment(BaseModel):
    basket_id: int
    household_id: int
    cents: int


class Refund(BaseModel):
    basket_id: int


@app.post("/charges")
def charge(payment: Payment) -> dict[str, str]:
    with Session(database) as session:
        # Not a unique key: a basket whose money was given back may be charged again.
        paid = select(Charge).where(Charge.basket_id == payment.basket_id, Charge.state == "charged")
        if session.scalars(paid).first() is not None:
            return {"state": "charged"}  # a repeated request
        account = session.get(Account, payment.household_id)
        if account is None or account.balance < payment.cents:
            raise HTTPException(402, f"household {payment.household_id} cannot pay {payment.cents} cents")
        account.balance -= payment.cents
        session.add(Charge(**payment.model_dump(), state="charged"))
        session.commit()
    return {"state": "charged"}


@app.post("/refunds")
def refund(undone: Refund) -> dict[str, str]:
    with Session(database) as session:
        paid = select(Charge).where(Charge.basket_id == undone.basket_id, Charge.state == "charged")
        for charge in session.scalars(paid):
            account = session.get_one(Account, charge.household_id)
            account.balance += charge.cents
            charge.state = "refunded"
        session.commit()
    return {"state": "refunded"}
