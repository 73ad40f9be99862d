"""One routing plan for all executions of a statement, found by the key of SQLAlchemy's own statement cache.

A plan holds the places of bound parameters, not their values, which is the mechanism by which SQLAlchemy reuses
compiled
statements. The key is memoised on the statement and compiled with later, so asking for it first costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Table

from .errors import NotMergeable, Unroutable
from .internals import cache_key, cloned_from, is_kind, plain
from .mergeable import Merging, examine
from .occurrences import Group, Reading
from .predicates import Equal
from .refusals import apart
from .scope import read_select, read_write
from .slots import slot

if TYPE_CHECKING:
    from .layout import ShardMap

__all__ = ["ANYWHERE", "Plan", "PlanCache", "Values", "plan_select", "plan_write"]

#: The route of a statement that reads no spread table.
ANYWHERE: tuple[int, ...] = (-1,)


class Values:
    """The values of one execution's bound parameters.

    A place is an index into the cache key's parameters or, without a key, the parameter itself.
    """

    __slots__ = ("_bound", "_given", "_params")

    def __init__(self, key: Any, params: Any) -> None:
        self._bound = key[1] if key is not None else ()
        # `.params(k=7)` is in the key's third part since SQLAlchemy 2.1, in the parameter itself before.
        self._given: Mapping[str, Any] = (key[2] if key is not None and len(key) > 2 else None) or {}
        self._params: Mapping[str, Any] = params if isinstance(params, Mapping) else {}

    def __call__(self, place: Any) -> Any:
        bind: BindParameter[Any] = self._bound[place] if isinstance(place, int) else place
        for mapping in (self._params, self._given):
            if bind.key in mapping:
                return mapping[bind.key]
        if bind.required:
            raise Unroutable(
                f"the value of the parameter {bind.key!r} was not given", clause=bind.key, cure="pass it to execute()"
            )
        return bind.effective_value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How a statement is routed.

    `single` is the place of the one value that decides, where routing is that simple. `merging` is what a scatter
    needs, or the
    refusal to raise; None for a write.
    """

    groups: tuple[Group, ...]
    single: Any
    merging: Merging | NotMergeable | None

    def route(self, values: Values, layout: ShardMap) -> tuple[int, ...]:
        """The ordinals of the shards to ask, ascending; empty for a contradiction.

        Raises:
            NotMergeable: tables that are not proved to sit together land on more than one shard.
            BadKey: a value is no sharding key.
        """
        if self.single is not None:
            value = values(self.single)
            placement = self.groups[0].placement
            kind = placement.kind
            return () if value is None or kind is None else (layout.locate(placement, kind.canonical(value)),)
        if not self.groups:
            return ANYWHERE
        routes = [_shards_of(group, values, layout) for group in self.groups]
        if len(routes) == 1:
            return routes[0]
        if any(len(route) != 1 for route in routes) or len(set(routes)) > 1:
            raise self.merging.again() if isinstance(self.merging, NotMergeable) else apart(self.groups)
        return routes[0]


def _shards_of(group: Group, values: Values, layout: ShardMap) -> tuple[int, ...]:
    placement = group.placement
    kind = placement.kind
    assert kind is not None
    keys = group.node.keys(values, kind)
    members = keys.members(2 * len(layout.shards))
    if members is None:
        return tuple(range(len(layout.shards)))
    return tuple(sorted({layout.locate(placement, key) for key in members}))


class PlanCache:
    """Plans by statement cache key, at most `size`; the oldest half goes when it is full.

    Reads and writes are single dict operations, so threads share it without a lock; two threads may both plan a new
    statement.
    """

    __slots__ = ("_plans", "_size", "relations")

    def __init__(self, size: int) -> None:
        #: which relationships stay on one shard; as many as the models have
        self.relations: dict[Any, bool] = {}
        self._plans: dict[Any, Plan] = {}
        self._size = max(2, size)

    def __len__(self) -> int:
        return len(self._plans)

    def known(self, statement: Any, layout: ShardMap) -> str | None:
        """The shard of a SELECT whose plan is there and whose key is one value in the statement; None for all others.

        The way of nearly every statement of a service, without anything that it does not need.
        """
        key = cache_key(statement)
        if key is None:
            return None
        plan = self._plans.get(key[0])
        if plan is None or plan.single is None or plan.merging is None or (len(key) > 2 and key[2]):
            return None
        bind: Any = key[1][plan.single]
        value = bind.callable() if bind.callable is not None else bind.value
        if value is None or bind.required:
            return None
        kind = plan.groups[0].placement.kind
        assert kind is not None
        return layout.shards[layout.owners[slot(kind, kind.canonical(value), len(layout.owners))]]

    def find(self, statement: Any, make: Callable[[Any], Plan]) -> tuple[Plan, Any]:
        """The plan of a statement, and its cache key (None where it has none)."""
        key = cache_key(statement)
        if key is None:
            return make(None), None
        plan = self._plans.get(key[0])
        if plan is None:
            plan = make(key)
            if len(self._plans) >= self._size:
                for old in list(self._plans)[: self._size // 2]:
                    self._plans.pop(old, None)
            self._plans[key[0]] = plan
        return plan, key


def places(key: Any) -> Callable[[BindParameter[Any]], Any]:
    """Find the place of a parameter, which the ORM may have copied since the key was made."""
    if key is None:
        return lambda bind: bind
    by_identity = {id(bind): at for at, bind in enumerate(key[1])}
    by_key = {bind.key: at for at, bind in enumerate(key[1])}

    def place(bind: BindParameter[Any]) -> Any:
        if id(bind) in by_identity:
            return by_identity[id(bind)]
        for earlier in cloned_from(bind):
            if id(earlier) in by_identity:
                return by_identity[id(earlier)]
        return by_key.get(bind.key)

    return place


def plan_select(statement: Any, key: Any, layout: ShardMap) -> Plan:
    """Analyse a SELECT once.

    Raises:
        Unroutable: its tables cannot be seen, or one has no rule.
    """
    reading: Reading = read_select(statement, layout.placements, places(key))
    groups = reading.groups()
    try:
        merging: Merging | NotMergeable = examine(statement, reading, groups, layout.dialect, locate=places(key))
    except NotMergeable as refusal:
        merging = refusal
    return Plan(groups=groups, single=_single(groups), merging=merging)


def plan_write(statement: Any, key: Any, layout: ShardMap) -> Plan:
    """Analyse an UPDATE or DELETE once.

    Raises:
        Unroutable: it writes something else than one table that has a rule.
    """
    table = statement.table
    if not is_kind(plain(table), Table):
        raise Unroutable(
            "an UPDATE or DELETE of an alias or a join cannot be routed", clause="UPDATE", cure="use the class"
        )
    assigned: Any = {} if statement.is_delete else statement._values or {}
    values = [value for value in assigned.values() if hasattr(value, "get_children")]
    reading = read_write(plain(table), statement._where_criteria, values, layout.placements, places(key))
    groups = reading.groups()
    return Plan(groups=groups, single=_single(groups), merging=None)


def _single(groups: tuple[Group, ...]) -> Any:
    return groups[0].node.source if len(groups) == 1 and isinstance(groups[0].node, Equal) else None
