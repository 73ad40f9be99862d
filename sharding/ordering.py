"""How a database orders values of a type, as keys that Python compares the same way, or not at all (M1, M2).

A type whose order is not known for certain has no key here, and a scatter that needs it is refused. The merge checks
the
shards' own order against these keys as well, so a wrong entry cannot give a wrong result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import total_ordering
from typing import Any, Final

from sqlalchemy import Float, type_coerce
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import (
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
)

from .rules import BINARY_COLLATIONS

__all__ = ["Reversed", "nulls_first", "order_key", "sortable"]

_NULLS_HIGHEST: Final = frozenset({"postgresql", "oracle"})


@total_ordering
class Reversed:
    """A value that compares the other way round, for DESC."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and self.value == other.value

    def __lt__(self, other: Reversed) -> bool:
        return bool(other.value < self.value)

    __hash__ = None  # type: ignore[assignment]  # a sort key is no dict key


def nulls_first(dialect: str, *, descending: bool, declared: bool | None) -> bool:
    """Whether NULL comes first: as declared by NULLS FIRST / LAST, else lowest (highest on PostgreSQL and Oracle)."""
    if declared is not None:
        return declared
    return descending if dialect in _NULLS_HIGHEST else not descending


def sortable(expression: Any, dialect: str) -> Any:
    """The expression to fetch for sorting: where the database keeps a float, rounding it to Decimal would make ties."""
    type_ = expression.type
    if isinstance(type_, TypeDecorator):
        return expression
    if (isinstance(type_, Float) and type_.asdecimal) or (isinstance(type_, Numeric) and dialect == "sqlite"):
        return type_coerce(expression, Float(asdecimal=False))
    return expression


def order_key(type_: Any, dialect: str) -> Callable[[Any], Any] | None:
    """A function from a value that is not NULL to a key in the database's order; None where that order is not known."""
    if isinstance(type_, (TypeDecorator, Enum)):
        return None
    if isinstance(type_, (Integer, Boolean)):
        return _same
    if isinstance(type_, Float):
        if dialect in ("mysql", "mariadb") and not isinstance(type_, Double):
            return None  # a FLOAT of four bytes is sent with six digits, and those tie where the values do not
        return _number
    if isinstance(type_, Numeric):
        return _number
    if isinstance(type_, (sqlite.DATETIME, sqlite.DATE, sqlite.TIME)):
        return None  # a storage format of the user's own
    if isinstance(type_, (Date, DateTime, Time)):
        return _same
    if isinstance(type_, String):
        return _text_key(type_, dialect)
    if isinstance(type_, LargeBinary):
        return bytes
    if isinstance(type_, Uuid) and type_.as_uuid and dialect in ("sqlite", "postgresql"):
        return _same
    return None


def _text_key(type_: Any, dialect: str) -> Callable[[Any], Any] | None:
    if dialect == "sqlite" and type_.collation in (None, "BINARY"):
        return _utf8
    if dialect == "postgresql" and type_.collation in BINARY_COLLATIONS - {None, "BINARY"}:
        return _utf8
    return None


def _same(value: Any) -> Any:
    return value


def _utf8(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _number(value: Any) -> Any:
    # NaN is above all numbers on PostgreSQL and NULL elsewhere.
    return (1, 0) if math.isnan(value) else (0, value)
