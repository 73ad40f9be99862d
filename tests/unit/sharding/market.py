"""A small grocery market for the sharding tests: households, orders with lines, and a broadcast catalogue."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Engine, ForeignKey, Integer, Numeric, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from backstay.sharding import Broadcast, Rule, ShardMap

NEW_YEAR = dt.datetime.fromisoformat("2026-01-01")  # naive, as the column is


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    household_id: Mapped[int] = mapped_column(Integer, index=True)
    cents: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    weight: Mapped[float | None]
    note: Mapped[str | None] = mapped_column(String(40))
    placed_at: Mapped[dt.datetime | None]
    paid: Mapped[bool] = mapped_column(Boolean, default=False)
    lines: Mapped[list[Line]] = relationship(back_populates="order", cascade="all, delete-orphan", order_by="Line.id")


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    household_id: Mapped[int]
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


class Visit(Base):
    """Spread by a key of another type, and by its primary key."""

    __tablename__ = "visit"
    token: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    page: Mapped[str] = mapped_column(String(40))


class Coupon(Base):
    """Has a composite primary key that holds the sharding key; ids repeat between households."""

    __tablename__ = "coupon"
    household_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cents: Mapped[int]


class Stray(Base):
    """Has no rule."""

    __tablename__ = "stray"
    id: Mapped[int] = mapped_column(primary_key=True)


RULES: list[Rule | Broadcast] = [
    Rule(Order, key="household_id", global_id=True),
    Rule(Line, key="household_id", with_=Order),
    Rule(Visit, key="token"),
    Rule(Coupon, key="household_id"),
    Broadcast(Product),
]


def layout_of(databases: dict[str, Any], **options: Any) -> ShardMap:
    return ShardMap.slots(databases, rules=RULES, **options)


def sqlite_layout(folder: Path, shards: int = 4) -> ShardMap:
    databases: dict[str, Any] = {f"s{at}": create_engine(f"sqlite:///{folder}/s{at}.db") for at in range(shards)}
    layout = layout_of(databases)
    for engine in layout.engines.values():
        Base.metadata.create_all(engine)
    return layout


def sqlite_whole(folder: Path) -> Engine:
    engine = create_engine(f"sqlite:///{folder}/whole.db")
    Base.metadata.create_all(engine)
    return engine


def order(at: int, household: int, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": at,
        "household_id": household,
        "cents": at * 7 % 40,
        "price": Decimal(at * 7 % 40) / 4,
        "weight": at / 3,
        "note": f"n{at % 5}",
        "placed_at": NEW_YEAR + dt.timedelta(hours=at * 5 % 17),
        "paid": at % 3 == 0,
    }
    return row | values


def fill(layout: ShardMap, whole: Engine | None, orders: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    """Put the rows on their shards and all of them into the whole, without the code under test."""
    targets: list[tuple[Engine, Any]] = [
        (engine, lambda row, name=name: layout.shard_of(Order, row["household_id"]) == name)
        for name, engine in layout.engines.items()
    ]
    if whole is not None:
        targets.append((whole, lambda row: True))
    for engine, here in targets:
        with Session(engine) as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
            session.add_all(Product(id=at, name=f"p{at}") for at in range(5))
            session.flush()
            session.add_all(Order(**row) for row in orders if here(row))
            session.flush()
            session.add_all(Line(**row) for row in lines if here(row))
            session.commit()


def baskets(orders: int = 60, households: int = 24) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Orders with some NULLs and ties, and up to three lines each."""
    rows = [order(at, at * 5 % households) for at in range(orders)]
    for at, row in enumerate(rows):
        if at % 6 == 0:
            row["cents"] = row["note"] = row["placed_at"] = None
        if at % 7 == 0:
            row["price"] = row["weight"] = None
    lines = [
        {
            "id": at * 3 + part,
            "order_id": at,
            "household_id": row["household_id"],
            "product_id": (at + part) % 5,
            "quantity": part + 1,
        }
        for at, row in enumerate(rows)
        for part in range(at % 4)
    ]
    return rows, lines
