"""What the user declares about a table: by which column its rows are spread, and with which table they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Table, Uuid, inspect
from sqlalchemy.orm import Mapper, RelationshipProperty

from backstay.errors import Misuse

from .internals import is_kind
from .slots import KINDS, KeyKind

__all__ = ["Broadcast", "Placement", "Rule", "place"]

BINARY_COLLATIONS: Final = frozenset({None, "BINARY", "C", "POSIX", "C.UTF-8", "ucs_basic"})


@dataclass(frozen=True, slots=True, init=False)
class Rule:
    """Spread the rows of a table over the shards by one column.

    `Rule(Order, key="household_id")`, `Rule(OrderLine, key="household_id", with_=Order)`.

    Args:
        entity: a mapped class or a `Table`.
        key: the attribute (or column) that holds the sharding key: an int, str, UUID or bytes.
        with_: the parent entity. It promises that each row lives on the shard of the parent row that its foreign key
            names, and that the parent's primary key is unique over all shards; joins and loads by that foreign key
            then stay on
            one shard. A flush refuses a child that breaks the first half; a foreign key in the database guards it as
            well.
        global_id: the primary key is unique over all shards, so `session.get` without the sharding key may look on
        all of them.

    Raises:
        Misuse: when the layout is made, for an unknown attribute or a key type that has no stable hash.
    """

    entity: Any
    key: str
    with_: Any
    global_id: bool

    def __init__(self, entity: Any, *, key: str, with_: Any = None, global_id: bool = False) -> None:
        object.__setattr__(self, "entity", entity)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "with_", with_)
        object.__setattr__(self, "global_id", global_id)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A table whose rows are the same on every shard: reads go to one shard, joins with it never leave a shard.

    Writing it through a sharded session is refused: load it shard by shard, with `session.connection_on`.
    """

    entity: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """A rule, resolved against the table: what routing reads.

    `column` and `kind` are None for a broadcast table. `binding` holds the pairs (child column, parent column) of
    the foreign
    key to the parent that `with_` named.
    """

    table: Table
    mapper: Mapper[Any] | None
    column: Column[Any] | None = None
    attribute: str = ""
    kind: KeyKind | None = None
    global_id: bool = False
    parent: Table | None = None
    binding: tuple[tuple[Column[Any], Column[Any]], ...] = ()

    @property
    def broadcast(self) -> bool:
        """The rows are the same on every shard."""
        return self.column is None

    def keyed(self) -> tuple[Column[Any], KeyKind]:
        """The key's column and kind of a table that is spread."""
        if self.column is None or self.kind is None:
            raise Misuse(f"table {self.table.name!r} is broadcast and has no sharding key")
        return self.column, self.kind


def table_of(entity: Any) -> tuple[Table, Mapper[Any] | None]:
    """The table and the mapper of a mapped class or a `Table`."""
    if is_kind(entity, Table):
        return entity, None
    mapper: Any = inspect(entity, raiseerr=False)
    if not is_kind(mapper, Mapper) or not is_kind(mapper.local_table, Table):
        raise Misuse(f"{entity!r} is no mapped class and no Table; a rule needs one of them")
    return mapper.local_table, mapper


def place(rule: Rule | Broadcast, dialect: str) -> Placement:
    """Check a rule against its table and the shards' dialect.

    Raises:
        Misuse: the key is no column, its type has no stable hash, or its collation makes unequal texts equal.
    """
    table, mapper = table_of(rule.entity)
    if isinstance(rule, Broadcast):
        return Placement(table=table, mapper=mapper)
    column = _key_column(table, mapper, rule.key)
    kind = _kind_of(column)
    _check_collation(column, dialect)
    attribute = mapper.get_property_by_column(column).key if mapper is not None else rule.key
    parent: Table | None = None
    binding: tuple[tuple[Column[Any], Column[Any]], ...] = ()
    if rule.with_ is not None:
        parent, _ = table_of(rule.with_)
        binding = _binding(table, parent)
    return Placement(
        table=table,
        mapper=mapper,
        column=column,
        attribute=attribute,
        kind=kind,
        global_id=rule.global_id,
        parent=parent,
        binding=binding,
    )


def colocated(prop: RelationshipProperty[Any], near: Placement, far: Placement) -> bool:
    """Whether the rows that a relationship reaches live on the shard of the row it starts from."""
    if far.broadcast:
        return True
    if near.broadcast or prop.secondary is not None:
        return False
    pairs = {(local, remote) for local, remote in prop.local_remote_pairs or ()}
    if (near.column, far.column) in pairs and near.kind is far.kind:
        return True
    for child, parent, turn in ((near, far, False), (far, near, True)):
        if child.parent is parent.table and child.binding:
            wanted = {(b, a) if turn else (a, b) for a, b in child.binding}
            if wanted <= pairs:
                return True
    return False


def _key_column(table: Table, mapper: Mapper[Any] | None, key: str) -> Column[Any]:
    if mapper is not None:
        found = mapper.columns.get(key)
        if isinstance(found, Column) and found.table is table:
            return found
        known = ", ".join(mapper.columns.keys())
    else:
        if key in table.c:
            return table.c[key]
        known = ", ".join(table.c.keys())
    raise Misuse(f"rule for {table.name!r}: no column attribute {key!r}; there are {known}")


def _kind_of(column: Column[Any]) -> KeyKind:
    try:
        python_type: type = column.type.python_type
    except NotImplementedError:
        python_type = object
    if isinstance(column.type, Uuid) and not column.type.as_uuid:
        python_type = object
    kind = KINDS.get(python_type)
    if kind is None:
        names = ", ".join(kind.name for kind in KINDS.values())
        raise Misuse(
            f"sharding key {column} has the type {column.type!r}, which has no stable hash; use one of {names}"
        )
    return kind


def _check_collation(column: Column[Any], dialect: str) -> None:
    if column.type.python_type is not str:
        return
    collation: str | None = getattr(column.type, "collation", None)
    if dialect in ("mysql", "mariadb"):
        if collation is None or not collation.endswith("_bin"):
            raise Misuse(
                f"sharding key {column}: texts that differ in case are equal there and sought on one shard only;"
                " declare String(n, collation='utf8mb4_bin')"
            )
    elif collation not in BINARY_COLLATIONS:
        raise Misuse(f"sharding key {column} has the collation {collation!r}; a key needs a binary one, or none")


def _binding(child: Table, parent: Table) -> tuple[tuple[Column[Any], Column[Any]], ...]:
    identity = set(parent.primary_key.columns)
    for constraint in child.foreign_key_constraints:
        pairs: Any = tuple((element.parent, element.column) for element in constraint.elements)
        if constraint.referred_table is parent and {far for _, far in pairs} == identity:
            return pairs  # type: ignore[no-any-return]  # ColumnElement by SQLAlchemy's types, columns of tables in truth
    return ()
