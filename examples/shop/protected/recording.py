"""The orders service's own part of a purchase: the order, in the database of its household."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update

from backstay.sharding import Rule, ShardedSession, ShardMap
from backstay.txn import Barrier, Branch, Tcc
from examples.shop.contract import Purchase
from examples.shop.places import Places, engine
from examples.shop.tables import Order, OrderLine

places = Places.load()
layout = ShardMap.slots(
    {f"orders-{n}": engine(url, in_turn=True) for n, url in enumerate(places.orders)},
    rules=[Rule(Order, key="household_id"), Rule(OrderLine, key="household_id", with_=Order)],
)
barrier = Barrier()


def create_barriers() -> None:
    """One barrier table beside the orders of each database: it must share their transactions."""
    for shard in layout.shards:
        Barrier.create(layout.engine(shard))


def once(branch: Branch, work: Callable[[ShardedSession], None]) -> None:
    """Run `work` and note that it ran in one local transaction, however often the request comes."""
    with ShardedSession(layout) as session, session.begin():
        connection = session.connection_of(Order, branch.payload["household_id"])
        barrier.call(connection, branch, lambda _: work(session))


def note(branch: Branch, **purchase: Any) -> None:
    bought = Purchase.model_validate(dict(branch.payload))
    key = {"household_id": bought.household_id, "basket_id": bought.basket_id}

    def add(session: ShardedSession) -> None:
        session.add(Order(**key, cents=bought.cents, state="pending"))
        session.add_all(OrderLine(**key, **line.model_dump()) for line in bought.bought)

    once(branch, add)


def place(branch: Branch, **purchase: Any) -> None:
    once(branch, lambda session: change_state(session, branch, "placed"))


def drop(branch: Branch, **purchase: Any) -> None:
    once(branch, lambda session: change_state(session, branch, "cancelled"))


def change_state(session: ShardedSession, branch: Branch, state: str) -> None:
    key = branch.payload
    order = update(Order).where(Order.household_id == key["household_id"], Order.basket_id == key["basket_id"])
    session.execute(order.values(state=state))


record_order = Tcc("record_order", try_=note, confirm=place, cancel=drop)
