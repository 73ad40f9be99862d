"""Payments service: takes money from a household's account and gives it back."""

from __future__ import annotations

from fastapi import FastAPI
from sqlalchemy import Connection, insert, update

from backstay.txn import Branch, Participant, TryRefused
from backstay.txn.fastapi import router
from examples.shop.places import Places, engine
from examples.shop.tables import Account, Charge

places = Places.load()
database = engine(places.payments, in_turn=True)
app = FastAPI(title="payments")


def hold(money: Connection, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    enough = update(Account).where(Account.household_id == household_id, Account.balance >= cents)
    if money.execute(enough.values(balance=Account.balance - cents)).rowcount == 0:
        raise TryRefused(f"household {household_id} cannot pay {cents} cents")
    money.execute(insert(Charge).values(basket_id=basket_id, household_id=household_id, cents=cents, state="held"))


def take(money: Connection, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    change_state(money, basket_id, "charged")


def give_back(money: Connection, branch: Branch, basket_id: int, household_id: int, cents: int) -> None:
    account = update(Account).where(Account.household_id == household_id)
    money.execute(account.values(balance=Account.balance + cents))
    change_state(money, basket_id, "refunded")


def change_state(money: Connection, basket_id: int, state: str) -> None:
    money.execute(update(Charge).where(Charge.basket_id == basket_id, Charge.state == "held").values(state=state))


charges = Participant("charges", database, try_=hold, confirm=take, cancel=give_back)
app.include_router(router(charges), prefix="/charges")
