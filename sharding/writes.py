"""INSERT, UPDATE and DELETE: each row to its shard, and a refusal where that is not known (R11 to R13)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.util import immutabledict

from .errors import Unkeyed, Unroutable
from .internals import IteratorResult, plain
from .plans import ANYWHERE, Values, plan_write
from .rules import Placement
from .written_keys import check_new_key, check_upsert, keys_of_rows

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["ShardedRows", "insert", "write"]


class ShardedRows(IteratorResult[Any]):
    """The result of a write on several shards: `rowcount` is the sum, `rowcounts` tells each shard's part."""

    rowcounts: dict[str, int]

    @property
    def rowcount(self) -> int:
        """Rows that matched, on all shards."""
        return sum(self.rowcounts.values())


def insert(
    session: ShardedSession,
    statement: Any,
    params: Any,
    options: Any,
    bind_arguments: Any,
    call: tuple[Any, Any, bool],
    named: str | None,
) -> Any:
    """Split the rows of an INSERT by shard and hand RETURNING back in the caller's order.

    Raises:
        Unroutable: a row has no key, or the statement's rows cannot be split.
        CrossShardWrite: several shards in commit mode `single`; nothing was sent.
    """
    if named is not None:
        session.enlist({named})
        return _insert_on(session, named, statement, params, options, bind_arguments, call)
    placement = _placement(session, statement)
    if statement.select is not None:
        raise Unroutable(
            "INSERT ... SELECT cannot be routed",
            clause="SELECT",
            cure="name the shard: execution_options={'shard': 's0'}",
        )
    check_upsert(statement, placement)
    by_shard: dict[str, list[int]] = {}
    for at, key in enumerate(keys_of_rows(statement, params, placement)):
        by_shard.setdefault(session.layout.shard_of(placement.table, key), []).append(at)
    if len(by_shard) > 1 and statement._multi_values:
        raise Unroutable(
            "the rows of insert().values([...]) belong to several shards",
            clause="VALUES",
            cure="pass them to execute: session.execute(insert(X), rows)",
        )
    if not by_shard:
        raise Unroutable("an INSERT of no rows cannot be routed", clause="VALUES", cure="leave it out")
    session.enlist(set(by_shard))
    if len(by_shard) == 1:
        return _insert_on(session, next(iter(by_shard)), statement, params, options, bind_arguments, call)
    return _insert_split(session, by_shard, statement, list(params), options, bind_arguments, call)


def _insert_split(
    session: ShardedSession,
    by_shard: Mapping[str, list[int]],
    statement: Any,
    rows: list[Any],
    options: Any,
    bind_arguments: Any,
    call: tuple[Any, Any, bool],
) -> Any:
    if statement._returning and not statement._sort_by_parameter_order:
        statement = statement._generate()
        statement._sort_by_parameter_order = True  # else the rows of a shard come back in any order
    returned: list[Any] = [None] * len(rows)
    counts: dict[str, int] = {}
    first: Any = None
    for shard in session.layout.shards:
        places = by_shard.get(shard)
        if places is None:
            continue
        result = _insert_on(
            session, shard, statement, [rows[at] for at in places], options, bind_arguments, (*call[:2], False)
        )
        counts[shard] = len(places)
        first = first if first is not None else result
        if statement._returning:
            for at, row in zip(places, result._raw_row_iterator(), strict=True):
                returned[at] = row
    if not statement._returning:
        return _rows(counts)
    scalars = bool(getattr(first, "_source_supports_scalars", False))
    merged = ShardedRows(first._metadata, iter(returned), _source_supports_scalars=scalars)
    merged._attributes = first._attributes
    merged.rowcounts = counts
    return merged.scalar() if call[2] else merged


def _insert_on(
    session: ShardedSession,
    shard: str,
    statement: Any,
    params: Any,
    options: Any,
    bind_arguments: Any,
    call: tuple[Any, Any, bool],
) -> Any:
    if _option("autoflush", options, statement, True):
        session._autoflush()
    with _bulk(session, shard):
        return session.on(shard, statement, params, _for_objects(shard, options), bind_arguments, call)


@contextmanager
def _bulk(session: ShardedSession, shard: str) -> Generator[None, None, None]:
    """SQLAlchemy refuses bulk inserts while a session has `connection_callable`; here all rows are of one shard."""
    with session.no_autoflush:  # what is pending was flushed before, object by object
        session.__dict__["connection_callable"] = None
        session._forced = shard
        try:
            yield
        finally:
            del session.__dict__["connection_callable"]
            session._forced = None


def write(
    session: ShardedSession,
    statement: Any,
    params: Any,
    options: Any,
    bind_arguments: Any,
    call: tuple[Any, Any, bool],
    named: str | None,
) -> Any:
    """Run an UPDATE or DELETE on the shards of its key.

    Raises:
        Unkeyed: it has no key and `scatter_writes` was not allowed for it.
        Misplaced: it sets the sharding key to one of another shard.
        CrossShardWrite: several shards in commit mode `single`; nothing was sent.
    """
    if named is not None:
        session.enlist({named})
        return session.on(named, statement, params, _for_objects(named, options), bind_arguments, call)
    placement = _placement(session, statement)
    if params is not None and not isinstance(params, Mapping):
        raise Unroutable(
            "UPDATE with a list of parameter sets cannot be routed",
            clause="parameters",
            cure="execute one statement a set",
        )
    plan, key = session.layout.plans.find(statement, lambda key: plan_write(statement, key, session.layout))
    values = Values(key, params)
    route = plan.route(values, session.layout)
    shards = [session.layout.shards[at] for at in route] if route is not ANYWHERE else []
    check_new_key(session, statement, params, placement, shards)
    if not shards and not statement._returning:
        return _rows({})
    if len(shards) > 1:
        everywhere = len(shards) == len(session.layout.shards)
        if everywhere and not _option("scatter_writes", options, statement, False):
            raise Unkeyed(
                f"an UPDATE or DELETE of {placement.table.name!r} would go to all {len(shards)} shards",
                clause="WHERE",
                cure="give the sharding key a value, or execution_options={'scatter_writes': True}",
            )
        if statement.kwargs:
            raise Unroutable(
                "dialect options such as LIMIT count per shard", clause="LIMIT", cure="give the sharding key a value"
            )
    session.enlist(set(shards))
    targets = shards or [session.layout.shards[0]]  # RETURNING of nothing: one shard gives it its columns
    if len(targets) == 1:
        return session.on(targets[0], statement, params, _for_objects(targets[0], options), bind_arguments, call)
    counts: dict[str, int] = {}
    rows: list[Any] = []
    first: Any = None
    for shard in targets:
        result = session.on(shard, statement, params, _for_objects(shard, options), bind_arguments, (*call[:2], False))
        first = first if first is not None else result
        if statement._returning:
            found = list(result._raw_row_iterator())
            counts[shard] = len(found)
            rows += found
        else:
            counts[shard] = result.rowcount
    if not statement._returning:
        return _rows(counts)
    scalars = bool(getattr(first, "_source_supports_scalars", False))
    merged = ShardedRows(first._metadata, iter(rows), _source_supports_scalars=scalars)
    merged._attributes = first._attributes
    merged.rowcounts = counts
    return merged.scalar() if call[2] else merged


def _rows(counts: dict[str, int]) -> ShardedRows:
    result = ShardedRows(SimpleResultMetaData([]), iter(()))
    result.rowcounts = counts
    return result


def _for_objects(shard: str, options: Any) -> Any:
    # For the objects of the session that a statement changes; those that RETURNING gives read the load options.
    return immutabledict(options).union({"identity_token": shard})


def _option(name: str, options: Any, statement: Any, default: Any) -> Any:
    return options.get(name, statement._execution_options.get(name, default))


def _placement(session: ShardedSession, statement: Any) -> Placement:
    table = plain(statement.table)
    if not isinstance(table, Table):
        raise Unroutable("a write to an alias or a join cannot be routed", clause="INSERT", cure="use the class")
    placement = session.layout.placement(table)
    if placement.broadcast:
        raise Unroutable(
            f"table {table.name!r} is broadcast: this would change one shard only",
            cure="write it on each shard with session.connection_on(shard)",
        )
    return placement
