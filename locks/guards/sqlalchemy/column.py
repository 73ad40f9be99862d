"""The type of a fence column, which makes the ORM compare by "not above" where it compares versions by "equal".

SQLAlchemy's unit of work has one place for a condition of ours inside an UPDATE or DELETE that it writes: the
version column, which it compares as `version = :loaded`. It builds that comparison with the column's own
operators, so a type with another operator for it turns it into `fence <= :offered`; all that SQLAlchemy does
around versions (rows counted one by one where a driver cannot count many, base tables of a hierarchy, deletes,
bulk updates) then serves fences. The value that is bound must be an `Offered`, which only this package makes: a
loaded number that got there by another way would compare the row with itself, and is refused.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, BindParameter, Dialect, bindparam
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator

from backstay.errors import Misuse
from backstay.locks.guards.token import FencingToken

__all__ = ["FenceNumber", "Offered", "Offering", "Unfenced"]


class Unfenced(Misuse, DontWrapMixin):
    """A fenced row would have been written without a fence; nothing was sent."""


class Offered(int):
    """A fence on its way into a comparison, with the name of its lock."""

    lock: str

    @classmethod
    def of(cls, token: FencingToken) -> Offered:
        """Return the fence of a token."""
        offered = cls(token.fence)
        offered.lock = token.name
        return offered


class Offering(TypeDecorator[int]):
    """The type of the value that a fence column is compared with when a row is written."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int:
        if not isinstance(value, Offered):
            raise Unfenced(
                "a fenced row would be written without a fence (by bulk_update_mappings, bulk_save_objects or "
                "post_update?); write it by a flush or session.execute() inside `with fenced(session, lease):`"
            )
        return int(value)


class _Comparison(TypeDecorator.Comparator[int], BigInteger.Comparator[int]):
    """Operators of a fence column; only the one that the unit of work uses for versions is another."""

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        # What users compare with is a number or an anonymous parameter; the unit of work hands over a named
        # one of the column's own type.
        if op is operators.eq and isinstance(other[0], BindParameter):
            bound: Any = other[0]  # pyright: ignore[reportUnknownVariableType]  its value may be of any type
            if isinstance(bound.type, FenceNumber) and not bound.unique:
                return super().operate(operators.le, bindparam(bound.key, type_=Offering()), **kwargs)
        return super().operate(op, *other, **kwargs)


class FenceNumber(TypeDecorator[int]):
    """A column of the highest fence that its row has seen: a BIGINT in the database."""

    impl = BigInteger
    cache_ok = True

    comparator_factory: Any = _Comparison

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return int(value) if isinstance(value, Offered) else value

    def compare_values(self, x: Any, y: Any) -> bool:
        # Equal or not, the fence of a row that is written is written with it.
        if isinstance(x, Offered) or isinstance(y, Offered):
            return False
        return bool(x == y)
