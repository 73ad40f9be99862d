"""Which shard owns which slot: the immutable, versioned map that routing reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Engine, Table, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import RelationshipProperty

from backstay.errors import MissingExtra, Misuse
from backstay.url import mask

from .pace import Pace
from .plans import PlanCache
from .rules import Broadcast, Placement, Rule, colocated, place, table_of
from .slots import Key, slot
from .telemetry import ShardMeters

__all__ = ["ShardMap"]

_EXTRAS = {"psycopg": "postgresql", "pymysql": "mysql", "aiosqlite": "sqlite-async"}

Database = Engine | AsyncEngine | URL | str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ShardMap:
    """A slot layout over whole databases: key -> slot -> shard.

    Immutable; a change of owners is a new map with a higher `epoch`. Making one opens no connection and reads no
    metadata, so it takes the same time for one table and for ten thousand. `str(layout)` prints it.
    """

    shards: tuple[str, ...]
    owners: tuple[int, ...]
    epoch: int
    rules: tuple[Rule | Broadcast, ...]
    engines: Mapping[str, Engine] = field(repr=False)
    async_engines: Mapping[str, AsyncEngine] = field(repr=False)
    placements: Mapping[Table, Placement] = field(repr=False)
    plans: PlanCache = field(repr=False)
    pace: Pace = field(repr=False)
    meters: Mapping[str, ShardMeters] = field(repr=False)
    #: execution options that carry a shard's name, made at first use
    tokens: dict[str, Any] = field(repr=False, default_factory=dict[str, Any])

    @classmethod
    def slots(
        cls,
        databases: Mapping[str, Database],
        *,
        rules: Iterable[Rule | Broadcast],
        slots: int = 1024,
        owners: Mapping[str, Sequence[range]] | None = None,
        epoch: int = 1,
        plans: int = 1000,
    ) -> ShardMap:
        """Make a layout over N databases of one dialect.

        Args:
            databases: shard name to engine or URL. Names are stored in objects' identities: keep them stable.
            rules: one `Rule` or `Broadcast` a table. A table without a rule is refused when it is used.
            slots: how many slots the keys are hashed to; fixed for the life of the data. More than shards.
            owners: shard name to ranges of slots; each slot exactly once. Default: equal contiguous parts, in the
            order given.
            epoch: version of the layout, from 1.
            plans: how many routing plans are remembered.

        Raises:
            Misuse: no database, a name that is empty or not a text, two shards on one engine, mixed dialects, a
            malformed URL,
                owners that leave a slot out, or a rule that does not fit its table.
        """
        if not databases:
            raise Misuse("a layout needs at least one database, got none")
        names = tuple(databases)
        for name in names:
            given: Any = name  # callers may be untyped
            if not isinstance(given, str) or not given:
                raise Misuse(f"shard names are non-empty texts, got {name!r}")
        if not len(names) <= slots <= 1 << 20:
            raise Misuse(f"slots must be from {len(names)} (the shards) to {1 << 20}, got {slots}")
        if epoch < 1:
            raise Misuse(f"epoch must be >= 1, got {epoch}")
        engines, async_engines = _engines(databases)
        dialect = next(iter(engines.values())).dialect.name
        return cls(
            shards=names,
            owners=_owners(names, slots, owners),
            epoch=epoch,
            rules=tuple(rules_ := tuple(rules)),
            engines=engines,
            async_engines=async_engines,
            placements=_placements(rules_, dialect),
            plans=PlanCache(plans),
            pace=Pace(),
            meters={name: ShardMeters(name, engine) for name, engine in engines.items()},
        )

    @property
    def dialect(self) -> str:
        """The name of the dialect that all shards share."""
        return self.engines[self.shards[0]].dialect.name

    def placement(self, entity: Any) -> Placement:
        """The resolved rule of a mapped class or a table.

        Raises:
            Misuse: it has none.
        """
        table, _ = table_of(entity)
        try:
            return self.placements[table]
        except KeyError:
            raise Misuse(f"table {table.name!r} has no rule in this layout; add Rule(...) or Broadcast(...)") from None

    def slot_of(self, entity: Any, key: object) -> int:
        """The slot of a key of this entity, from 0.

        Raises:
            BadKey: the value is no key of the declared type.
        """
        _, kind = self.placement(entity).keyed()
        return slot(kind, kind.canonical(key), len(self.owners))

    def shard_of(self, entity: Any, key: object) -> str:
        """The name of the shard where rows with this key live.

        Raises:
            BadKey: the value is no key of the declared type.
        """
        return self.shards[self.owners[self.slot_of(entity, key)]]

    def locate(self, placement: Placement, key: Key) -> int:
        """The ordinal of the shard of a canonical key."""
        kind = placement.kind
        assert kind is not None
        return self.owners[slot(kind, key, len(self.owners))]

    def stays(self, prop: RelationshipProperty[Any]) -> bool:
        """Whether what a relationship reaches lives on the shard of the object it starts from."""
        known = self.plans.relations.get(prop)
        if known is None:
            near, far = (self.placements.get(mapper.local_table) for mapper in (prop.parent, prop.mapper))  # type: ignore[call-overload]  # a Table, by the rules
            known = near is not None and far is not None and colocated(prop, near, far)
            self.plans.relations[prop] = known
        return known

    def engine(self, shard: str) -> Engine:
        """The (sync) engine of a shard.

        Raises:
            Misuse: there is no such shard.
        """
        try:
            return self.engines[shard]
        except KeyError:
            raise Misuse(f"no shard {shard!r} in this layout; there are {', '.join(self.shards)}") from None

    def dispose(self) -> None:
        """Close the pools of all shards; asyncio code calls `dispose` of its own engines."""
        for engine in self.engines.values():
            engine.dispose()

    def __str__(self) -> str:
        lines = [f"layout epoch {self.epoch}: {len(self.owners)} slots over {len(self.shards)} shards"]
        for ordinal, name in enumerate(self.shards):
            ranges = _ranges([at for at, owner in enumerate(self.owners) if owner == ordinal])
            where = self.engines[name].url.render_as_string(hide_password=True)
            lines.append(f"  {name}: slots {ranges} on {where}")
        for placement in self.placements.values():
            by = "on every shard" if placement.broadcast else f"by {placement.attribute}"
            bound = f" with {placement.parent.name}" if placement.parent is not None else ""
            lines.append(f"  table {placement.table.name} {by}{bound}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"ShardMap(epoch={self.epoch}, slots={len(self.owners)}, shards={list(self.shards)!r})"


def _engines(databases: Mapping[str, Database]) -> tuple[dict[str, Engine], dict[str, AsyncEngine]]:
    engines: dict[str, Engine] = {}
    async_engines: dict[str, AsyncEngine] = {}
    for name, database in databases.items():
        made = _engine(name, database)
        if isinstance(made, AsyncEngine):
            async_engines[name] = made
            made = made.sync_engine
        if made in engines.values():
            raise Misuse(f"shard {name!r} has the same engine as another shard; give each its own")
        engines[name] = made
    if async_engines and len(async_engines) != len(engines):
        raise Misuse("some shards have asyncio engines and some have not; give all of one make")
    dialects = {engine.dialect.name for engine in engines.values()}
    if len(dialects) > 1:
        raise Misuse(
            f"all shards need one dialect, got {', '.join(sorted(dialects))}: NULL order and types differ between them"
        )
    return engines, async_engines


def _engine(name: str, database: Database) -> Engine | AsyncEngine:
    if isinstance(database, (Engine, AsyncEngine)):
        return database
    try:
        url = make_url(database)
        return create_async_engine(url) if url.get_dialect().is_async else create_engine(url)
    except (ArgumentError, ValueError) as error:  # a port that is no number is a plain ValueError
        raise Misuse(
            f"shard {name!r}: {mask(str(database))!r} is no database URL or engine: {mask(str(error))}"
        ) from None
    except ImportError as error:
        extra = _EXTRAS.get((error.name or "").lower())
        if extra is None:
            raise
        raise MissingExtra(f"shard {name!r} needs {error.name!r}; pip install 'backstay[{extra}]'") from error


def _owners(names: tuple[str, ...], slots: int, owners: Mapping[str, Sequence[range]] | None) -> tuple[int, ...]:
    if owners is None:
        return tuple(at * len(names) // slots for at in range(slots))
    owned: list[int | None] = [None] * slots
    for name, ranges in owners.items():
        if name not in names:
            raise Misuse(f"owners name the shard {name!r}, which has no database")
        for at in (at for part in ranges for at in part):
            if not 0 <= at < slots:
                raise Misuse(f"owners of {name!r}: slot {at} is outside of 0 to {slots - 1}")
            if owned[at] is not None:
                raise Misuse(f"slot {at} has two owners")
            owned[at] = names.index(name)
    result = tuple(owner for owner in owned if owner is not None)
    if len(result) != slots:
        raise Misuse(f"slot {owned.index(None)} has no owner")
    return result


def _placements(rules: tuple[Rule | Broadcast, ...], dialect: str) -> dict[Table, Placement]:
    placements: dict[Table, Placement] = {}
    for rule in rules:
        placement = place(rule, dialect)
        if placement.table in placements:
            raise Misuse(f"table {placement.table.name!r} has two rules")
        placements[placement.table] = placement
    for placement in placements.values():
        parent = placement.parent
        if parent is not None:
            other = placements.get(parent)
            if other is None or other.kind is not placement.kind:
                raise Misuse(
                    f"rule for {placement.table.name!r}: with_={parent.name!r} needs a Rule with the same key type"
                )
    return placements


def _ranges(slots: list[int]) -> str:
    parts: list[list[int]] = []
    for at in slots:
        if parts and parts[-1][1] == at - 1:
            parts[-1][1] = at
        else:
            parts.append([at, at])
    return ", ".join(f"{low}-{high}" for low, high in parts) or "none"
