"""The tables of the three services; each service owns its database, nobody reads a neighbour's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Account",
    "Charge",
    "Order",
    "OrderLine",
    "OrdersBase",
    "PaymentsBase",
    "Product",
    "Reservation",
    "StockBase",
]


class OrdersBase(DeclarativeBase):
    """Owned by the orders service, spread over four databases by household."""


class StockBase(DeclarativeBase):
    """Owned by the stock service."""


class PaymentsBase(DeclarativeBase):
    """Owned by the payments service."""


class Order(OrdersBase):
    """A basket that was bought (state `placed`); the protected shop also passes through `pending` and `cancelled`."""

    __tablename__ = "orders"

    household_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    basket_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    cents: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))


class OrderLine(OrdersBase):
    """One product of an order."""

    __tablename__ = "order_lines"

    household_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    basket_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    quantity: Mapped[int] = mapped_column(Integer)
    cents: Mapped[int] = mapped_column(Integer)


class Product(StockBase):
    """A product on the shelf: how many there were at opening and how many there are now."""

    __tablename__ = "products"

    product_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    opening: Mapped[int] = mapped_column(Integer)
    on_hand: Mapped[int] = mapped_column(Integer)


class Reservation(StockBase):
    """Units taken from the shelf for a basket: `held`, later `released` or (protected shop) `sold`."""

    __tablename__ = "reservations"

    basket_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    units: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))


class Account(PaymentsBase):
    """What a household can spend, in cents."""

    __tablename__ = "accounts"

    household_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    opening: Mapped[int] = mapped_column(Integer)
    balance: Mapped[int] = mapped_column(Integer)


class Charge(PaymentsBase):
    """Money taken for a basket: `charged`, later perhaps `refunded`; the protected shop holds it first (`held`)."""

    __tablename__ = "charges"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    basket_id: Mapped[int] = mapped_column(BigInteger, index=True)
    household_id: Mapped[int] = mapped_column(BigInteger)
    cents: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
