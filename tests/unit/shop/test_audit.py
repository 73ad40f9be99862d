"""The audit is what the demo's claim rests on: every kind of violation, put into the books on purpose, is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.orm import DeclarativeBase, Session

from examples.shop.places import Places, opened
from examples.shop.replay.audit import Books, audit
from examples.shop.replay.data import Opening
from examples.shop.replay.opening import open_shop
from examples.shop.tables import Account, Charge, Order, OrderLine, Product, Reservation

HOUSE, BASKET, PRODUCT = 6, 100, 9


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A shop with one sound purchase: two units of one product for five dollars."""
    made = Places.embedded(tmp_path, stock_service="", payments_service="")
    open_shop(made, Opening(stock={PRODUCT: 2, 10: 1}, balances={HOUSE: 500, 7: 100}), tmp_path)
    put(made.orders[2], Order(household_id=HOUSE, basket_id=BASKET, cents=500, state="placed"))
    put(made.orders[2], OrderLine(household_id=HOUSE, basket_id=BASKET, product_id=PRODUCT, quantity=2, cents=500))
    put(made.stock, Reservation(basket_id=BASKET, units={str(PRODUCT): 2}, state="held"))
    put(made.payments, Charge(basket_id=BASKET, household_id=HOUSE, cents=500, state="charged"))
    shelf(made, -2)
    account(made, -500)
    return made


def put(url: str, row: DeclarativeBase) -> None:
    with opened(url) as database, Session(database) as session, session.begin():
        session.add(row)


def shelf(places: Places, units: int) -> None:
    with opened(places.stock) as database, database.begin() as connection:
        changed = update(Product).where(Product.product_id == PRODUCT)
        connection.execute(changed.values(on_hand=Product.on_hand + units))


def account(places: Places, cents: int) -> None:
    with opened(places.payments) as database, database.begin() as connection:
        changed = update(Account).where(Account.household_id == HOUSE)
        connection.execute(changed.values(balance=Account.balance + cents))


def oversell(places: Places) -> None:
    put(places.orders[2], OrderLine(household_id=HOUSE, basket_id=BASKET, product_id=10, quantity=4, cents=0))


def lose_the_order(places: Places) -> None:
    with opened(places.orders[2]) as database, database.begin() as connection:
        connection.execute(delete(Order))


def leave_the_order_pending(places: Places) -> None:
    with opened(places.orders[2]) as database, database.begin() as connection:
        connection.execute(update(Order).values(state="pending"))


def refund(places: Places) -> None:
    with opened(places.payments) as database, database.begin() as connection:
        connection.execute(update(Charge).values(state="refunded"))
    account(places, 500)


def charge_twice(places: Places) -> None:
    put(places.payments, Charge(basket_id=BASKET, household_id=HOUSE, cents=500, state="charged"))
    account(places, -500)


def leave_a_hold(places: Places) -> None:
    put(places.payments, Charge(basket_id=101, household_id=HOUSE, cents=1, state="held"))
    account(places, -1)


def test_a_sound_purchase_breaks_nothing(places: Places) -> None:
    books = audit(places)
    assert books.violations == 0
    assert (books.orders, books.units_sold) == (1, 2)


def test_a_released_reservation_and_a_cancelled_order_break_nothing(places: Places) -> None:
    put(places.stock, Reservation(basket_id=101, units={"10": 1}, state="released"))
    put(places.orders[3], Order(household_id=7, basket_id=101, cents=5, state="cancelled"))
    put(places.payments, Charge(basket_id=101, household_id=7, cents=5, state="refunded"))
    assert audit(places).violations == 0


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (oversell, {"oversold_units": 3}),
        (
            lose_the_order,
            {
                "money_without_order": 1,
                "hanging_reservations": 1,
                "unfinished_transactions": 1,
                "cents_without_order": 500,
            },
        ),
        (
            leave_the_order_pending,
            {
                "money_without_order": 1,
                "hanging_reservations": 1,
                "unfinished_transactions": 1,
                "cents_without_order": 500,
            },
        ),
        (refund, {"orders_without_money": 1, "unfinished_transactions": 1, "cents_not_charged": 500}),
        (charge_twice, {"double_charges": 1}),
        (leave_a_hold, {"money_without_order": 1, "unfinished_transactions": 1, "cents_without_order": 1}),
        (lambda places: shelf(places, 1), {"wrong_sums": 1}),
        (lambda places: account(places, 1), {"wrong_sums": 1}),
    ],
)
def test_each_harm_is_found_and_nothing_else(
    places: Places, harm: Callable[[Places], None], found: dict[str, int]
) -> None:
    harm(places)
    books = audit(places)
    zero = dict.fromkeys(Books.__dataclass_fields__, 0)
    measured = {name: getattr(books, name) for name in zero if name not in ("orders", "units_sold")}
    assert measured == {name: found.get(name, 0) for name in measured}
    assert books.violations > 0


def test_a_transaction_that_the_journal_lists_is_a_violation(places: Places) -> None:
    with opened(places.journal) as database, database.begin() as journal:
        journal.execute(text("CREATE TABLE backstay_txn_transaction (state VARCHAR)"))
        for state in ("trying", "confirmed", "cancelling", "cancelled"):
            journal.execute(text("INSERT INTO backstay_txn_transaction VALUES (:state)"), {"state": state})
    assert audit(places).unfinished_transactions == 2
