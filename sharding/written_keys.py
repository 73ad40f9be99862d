"""The sharding keys that a write gives its rows, and the refusal of one that would move a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Column

from .errors import Misplaced, Unroutable
from .internals import is_kind, is_orm, plain
from .rules import Placement

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["check_new_key", "check_upsert", "keys_of_rows"]

_MISSING: Any = object()


def keys_of_rows(statement: Any, params: Any, placement: Placement) -> Iterator[Any]:
    """The sharding key of each row, in the caller's order.

    Raises:
        Unroutable: a row has none, or not as a plain value.
    """
    column, _ = placement.keyed()
    names = {placement.attribute, column.key} if is_orm(statement) else {column.key}
    fixed = _value(statement._values, column, names)
    if statement._multi_values:
        for rows in statement._multi_values:
            for row in rows:
                positional: Any = None if hasattr(row, "items") else zip(placement.table.c.keys(), row, strict=False)
                yield _required(_value(row if positional is None else dict(positional), column, names), placement)
        return
    sets: Sequence[Any] = [params] if isinstance(params, Mapping) else params or [{}]
    for row in sets:
        value = _value(row, column, names)
        yield _required(fixed if value is _MISSING else value, placement)


def _value(mapping: Any, column: Column[Any], names: set[str]) -> Any:
    pairs: Any = mapping.items() if mapping else ()
    for key, value in pairs:
        if key in names if isinstance(key, str) else plain(key) is column or getattr(key, "key", None) in names:
            return value.effective_value if is_kind(value, BindParameter) else value
    return _MISSING


def _required(value: Any, placement: Placement) -> Any:
    if value is _MISSING or hasattr(value, "__clause_element__") or hasattr(value, "get_children"):
        raise Unroutable(
            f"a row for {placement.table.name!r} has no value for the sharding key {placement.attribute!r}",
            clause="VALUES",
            cure="give it as a plain value",
        )
    return value


def check_new_key(
    session: ShardedSession, statement: Any, params: Any, placement: Placement, shards: Sequence[str]
) -> None:
    """Refuse an UPDATE that would take a row away from its shard.

    Raises:
        Misplaced: it sets the sharding key to one that is not known to stay.
    """
    if statement.is_delete:
        return
    column, _ = placement.keyed()
    names = {placement.attribute, column.key}
    ordered: dict[Any, Any] = dict(
        getattr(statement, "_ordered_values", None) or ()
    )  # SQLAlchemy 2.0; in `_values` since 2.1
    given: tuple[Any, ...] = (statement._values, ordered, params)
    for mapping in given:
        value = _value(mapping, column, names)
        if value is _MISSING:
            continue
        if hasattr(value, "get_children") or any(
            session.layout.shard_of(placement.table, value) != shard for shard in shards
        ):
            raise Misplaced(
                f"UPDATE sets the sharding key {placement.attribute!r} to one that is not known to stay on its shard;"
                " delete the row and insert a new one"
            )


def check_upsert(statement: Any, placement: Placement) -> None:
    """Refuse an upsert whose update sets the sharding key.

    Raises:
        Misplaced: it does.
    """
    clause = statement._post_values_clause
    column, _ = placement.keyed()
    changes: Any = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None) or ()
    pairs: Any = changes.items() if hasattr(changes, "items") else changes
    for key, _value in pairs:
        if key in (column.key, column.name) or plain(key) is column:
            raise Misplaced(f"an upsert may not change the sharding key {placement.attribute!r}")
