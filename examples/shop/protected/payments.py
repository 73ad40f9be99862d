"""Payments service: takes money from a household's account and gives it back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from backstay.fastapi import install
from backstay.txn import Barrier, Branch, Participant, TryRefused
from backstay.txn.fastapi import router
from examples.shop.places import Places, engine
from examples.shop.tables import Account, Charge

places = Places.load()
database = engine(places.payments, in_turn=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    Barrier.create(database)
    yield


app = FastAPI(title="payments", lifespan=lifespan)
install(app)


def hold(session: Session, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    enough = update(Account).where(Account.household_id == household_id, Account.balance >= cents)
    if session.execute(enough.values(balance=Account.balance - cents)).rowcount == 0:
        raise TryRefused(f"household {household_id} cannot pay {cents} cents")
    session.add(Charge(basket_id=basket_id, household_id=household_id, cents=cents, state="held"))


def take(session: Session, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    change_state(session, basket_id, "charged")


def give_back(session: Session, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    account = update(Account).where(Account.household_id == household_id)
    session.execute(account.values(balance=Account.balance + cents))
    change_state(session, basket_id, "refunded")


def change_state(session: Session, basket_id: int, state: str) -> None:
    session.execute(update(Charge).where(Charge.basket_id == basket_id, Charge.state == "held").values(state=state))


charges = Participant("charges", sessionmaker(database), try_=hold, confirm=take, cancel=give_back)
app.include_router(router(charges), prefix="/charges")
