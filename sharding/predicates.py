"""From a WHERE clause to the sharding keys it lets through, with the values left open (R2 to R5).

`narrow` walks an expression once and gives a `Node`; a node is evaluated for each execution with that execution's
values. Whatever is not understood becomes `Everything`, so a route may be too wide and is never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import BindParameter
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    AsBoolean,
    BinaryExpression,
    BooleanClauseList,
    ClauseList,
    ExpressionClauseList,
    False_,
    Grouping,
    Null,
    True_,
    Tuple,
    UnaryExpression,
)

from .internals import is_kind
from .keyset import EVERY, NONE, KeySet, points, span
from .slots import INT, KeyKind

__all__ = ["Both", "Either", "Everything", "Node", "Nothing", "Read", "narrow"]

#: Gives the value of a bound parameter, by its place in the statement's cache key or by itself.
Read = Callable[[Any], Any]
#: Gives the place of a bound parameter (or itself, without a cache key); None where it is not known.
Locate = Callable[[BindParameter[Any]], Any]

_MAX_TERMS: Final = 64
_LISTS: Final = (ClauseList, ExpressionClauseList)


@dataclass(frozen=True, slots=True)
class Everything:
    """No narrowing."""

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """All keys."""
        return EVERY


@dataclass(frozen=True, slots=True)
class Nothing:
    """Contradiction."""

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """No key."""
        return NONE


@dataclass(frozen=True, slots=True)
class Equal:
    """The key equals one value; equal to NULL is never true."""

    source: Any

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """One key, or none for NULL."""
        value = read(self.source)
        return NONE if value is None else points(kind.canonical(value))


@dataclass(frozen=True, slots=True)
class Member:
    """The key is one of a list of values; `at` picks it out of row values. NULL in the list matches nothing."""

    source: Any
    at: int | None = None

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """The listed keys."""
        values = read(self.source)
        if self.at is not None:
            values = [row[self.at] for row in values]
        return points(*(kind.canonical(value) for value in values if value is not None))


@dataclass(frozen=True, slots=True)
class Above:
    """The key is above a value (or equal to it, when closed). Only integers have an order that is known here."""

    source: Any
    closed: bool

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """An interval with no upper end."""
        value = read(self.source)
        if value is None:
            return NONE
        if kind is not INT or not _finite(value):
            return EVERY
        return span(math.ceil(value) if self.closed else math.floor(value) + 1, None)


@dataclass(frozen=True, slots=True)
class Below:
    """The key is below a value (or equal to it, when closed)."""

    source: Any
    closed: bool

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """An interval with no lower end."""
        value = read(self.source)
        if value is None:
            return NONE
        if kind is not INT or not _finite(value):
            return EVERY
        return span(None, math.floor(value) if self.closed else math.ceil(value) - 1)


@dataclass(frozen=True, slots=True)
class Both:
    """AND: the keys that pass all parts."""

    parts: tuple[Node, ...]

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """The intersection."""
        result = EVERY
        for part in self.parts:
            result &= part.keys(read, kind)
        return result


@dataclass(frozen=True, slots=True)
class Either:
    """OR: the keys that pass any part."""

    parts: tuple[Node, ...]

    def keys(self, read: Read, kind: KeyKind) -> KeySet:
        """The union."""
        result = NONE
        for part in self.parts:
            result |= part.keys(read, kind)
        return result


Node = Everything | Nothing | Equal | Member | Above | Below | Both | Either

_ORDERED: Final[dict[Any, Callable[[Any], Node]]] = {
    operators.gt: lambda source: Above(source, closed=False),
    operators.ge: lambda source: Above(source, closed=True),
    operators.lt: lambda source: Below(source, closed=False),
    operators.le: lambda source: Below(source, closed=True),
}
_MIRROR: Final[dict[Any, Any]] = {
    operators.eq: operators.eq,
    operators.ne: operators.ne,
    operators.lt: operators.gt,
    operators.gt: operators.lt,
    operators.le: operators.ge,
    operators.ge: operators.le,
}
_NEGATED: Final[dict[Any, Any]] = {
    operators.eq: operators.ne,
    operators.ne: operators.eq,
    operators.lt: operators.ge,
    operators.ge: operators.lt,
    operators.gt: operators.le,
    operators.le: operators.gt,
    operators.in_op: operators.not_in_op,
    operators.not_in_op: operators.in_op,
    operators.is_: operators.is_not,
    operators.is_not: operators.is_,
    operators.between_op: operators.not_between_op,
    operators.not_between_op: operators.between_op,
}


def narrow(clause: Any, is_key: Callable[[Any], bool], locate: Locate, *, nullable: bool) -> Node:
    """What `clause` says about one occurrence of a sharding key.

    Args:
        clause: a WHERE or ON expression; None says nothing.
        is_key: whether an expression is that occurrence's key column.
        locate: where the value of a bound parameter will be found.
        nullable: rows may have NULL in the key column, so IS NULL means "anywhere".
    """
    return _Walk(is_key, locate, nullable).node(clause, negated=False)


class _Walk:
    def __init__(self, is_key: Callable[[Any], bool], locate: Locate, nullable: bool) -> None:
        self._is_key = is_key
        self._locate = locate
        self._nullable = nullable

    def node(self, clause: Any, *, negated: bool) -> Node:
        if is_kind(clause, True_):
            return Nothing() if negated else Everything()
        if is_kind(clause, False_):
            return Everything() if negated else Nothing()
        if is_kind(clause, Grouping):
            return self.node(clause.element, negated=negated)
        if is_kind(clause, AsBoolean):
            return self.node(clause.element, negated=negated != (clause.operator is operators.is_false))
        if is_kind(clause, UnaryExpression) and clause.operator is operators.inv:
            return self.node(clause.element, negated=not negated)
        if is_kind(clause, BooleanClauseList):
            return self._list(clause, negated)
        if is_kind(clause, BinaryExpression):
            return self._binary(clause, negated)
        return Everything()

    def _list(self, clause: Any, negated: bool) -> Node:
        parts = tuple(self.node(part, negated=negated) for part in clause.clauses)
        if (clause.operator is operators.and_) != negated:
            return both(parts)
        if len(parts) > _MAX_TERMS or any(isinstance(part, Everything) for part in parts):
            return Everything()
        parts = tuple(part for part in parts if not isinstance(part, Nothing))
        return parts[0] if len(parts) == 1 else Either(parts) if parts else Nothing()

    def _binary(self, clause: Any, negated: bool) -> Node:
        operator: Any = clause.operator
        left, right = _bare(clause.left), _bare(clause.right)
        if negated:
            operator = _NEGATED.get(operator)
        if operator is operators.in_op:
            return self._in(left, right)
        if not self._is_key(left):
            if not self._is_key(right) or operator not in _MIRROR:
                return Everything()
            operator, left, right = _MIRROR[operator], right, left
        if operator is operators.is_ and is_kind(right, Null):
            return Everything() if self._nullable else Nothing()
        if operator is operators.between_op and is_kind(right, *_LISTS) and len(right.clauses) == 2:
            low, high = (self._source(end) for end in right.clauses)
            if low is None or high is None:
                return Everything()
            return Both((Above(low, closed=True), Below(high, closed=True)))
        source = self._source(right)
        if source is None:
            return Nothing() if is_kind(right, Null) and operator in _MIRROR else Everything()
        if operator is operators.eq:
            return Equal(source)
        make = _ORDERED.get(operator)
        return make(source) if make is not None else Everything()

    def _in(self, left: Any, right: Any) -> Node:
        at: int | None = None
        if is_kind(left, Tuple):
            found = [index for index, part in enumerate(left.clauses) if self._is_key(_bare(part))]
            if not found:
                return Everything()
            at = found[0]
        elif not self._is_key(left):
            return Everything()
        if is_kind(right, BindParameter):
            source = self._source(right)
            return Everything() if source is None or not right.expanding else Member(source, at)
        if is_kind(right, *_LISTS) and at is None:
            sources = [self._source(part) for part in right.clauses if not is_kind(part, Null)]
            if any(source is None for source in sources) or len(sources) > _MAX_TERMS:
                return Everything()
            return Either(tuple(Equal(source) for source in sources)) if sources else Nothing()
        return Everything()

    def _source(self, value: Any) -> Any:
        value = _bare(value)
        return self._locate(value) if is_kind(value, BindParameter) else None


def both(parts: Sequence[Node]) -> Node:
    """AND of nodes, as simple as it can be."""
    if any(isinstance(part, Nothing) for part in parts):
        return Nothing()
    kept = tuple(dict.fromkeys(part for part in parts if not isinstance(part, Everything)))
    return kept[0] if len(kept) == 1 else Both(kept) if kept else Everything()


def _bare(clause: Any) -> Any:
    while is_kind(clause, Grouping):
        clause = clause.element
    return clause


def _finite(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, (float, Decimal)) and math.isfinite(value))
