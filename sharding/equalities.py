"""Which expressions a clause makes equal, and whether that puts two occurrences of tables on one shard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping

from .internals import is_kind
from .occurrences import Occurrence

__all__ = ["equalities", "together"]


def equalities(clause: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of expressions that a clause makes equal in every row that it lets through."""
    while is_kind(clause, Grouping):
        clause = clause.element
    if is_kind(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from equalities(part)
    elif is_kind(clause, BinaryExpression) and clause.operator is operators.eq:
        yield clause.left, clause.right


def together(a: Occurrence, b: Occurrence, equal: list[tuple[Any, Any]]) -> bool:
    """Whether the equalities put rows of both on one shard: by their keys, or by a declared foreign key."""
    if a.placement.kind is b.placement.kind:
        for left, right in equal:
            if (a.is_key(left) and b.is_key(right)) or (a.is_key(right) and b.is_key(left)):
                return True
    return _bound(a, b, equal) or _bound(b, a, equal)


def _bound(child: Occurrence, parent: Occurrence, equal: list[tuple[Any, Any]]) -> bool:
    """Whether the equalities follow the declared foreign key from child to parent."""
    if child.placement.parent is not parent.placement.table or not child.placement.binding:
        return False
    return all(
        any(
            (child.has(x, near) and parent.has(y, far)) or (child.has(y, near) and parent.has(x, far)) for x, y in equal
        )
        for near, far in child.placement.binding
    )
