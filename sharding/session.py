"""The session that finds the shard: SQLAlchemy's own, with routing in front of `execute` and of the flush."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal, cast

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session
from sqlalchemy.util import immutabledict

from backstay.clock import monotonic
from backstay.errors import Misuse

from .errors import Unkeyed, Unroutable
from .internals import PASSIVE_OFF, SessionTransactionOrigin, is_kind, load_options_with, top_level_token
from .layout import ShardMap
from .placing import check_flush, placement_of, shard_of_state
from .plans import ANYWHERE, Plan, Values, plan_select
from .routing import refuse_unreadable, resolved
from .scatter import empty_result, per_shard, window
from .unit import UnitOfWork
from .writes import insert, write

__all__ = ["ShardedSession", "UnkeyedPolicy"]

CommitMode = Literal["single", "best_effort"]
UnkeyedPolicy = Literal["allow", "warn", "refuse"] | int

_NONE: Any = cast("Any", immutabledict)()


class ShardedSession(Session):
    """A `Session` over the shards of a layout: one for a request, then close it.

    Guarantees: a statement with its sharding key runs on that key's shard, unchanged. A SELECT on several shards
    gives what one
    database with all the rows would give, or raises `NotMergeable` naming the clause. Writes go to one shard, or in
    commit mode
    `best_effort` to several with a `PartialCommit` that says what happened to each. Not guaranteed: one snapshot over
    shards, or an atomic commit over them.

    Execution options: `shard="s1"` names the shard (nothing is checked then), `unkeyed=...` overrides the policy,
    `scatter_writes=True` lets an UPDATE or DELETE without a key go to all shards.

    Args:
        layout: the shards and the rules.
        commit: `single` refuses a second shard with writes; `best_effort` commits one after the other.
        unkeyed: reads without the sharding key: `allow`, `warn`, `refuse`, or a number, the most shards a read may
        go to.
        at_once: ask shards of a scatter at the same time: True, False, or None for "when they are slow" (SQLite never).

    Raises:
        Misuse: an unknown mode, or an engine given beside the layout.
    """

    _forced: str | None = None

    def __init__(
        self,
        layout: ShardMap,
        *,
        commit: CommitMode = "single",
        unkeyed: UnkeyedPolicy = "allow",
        at_once: bool | None = None,
        bind: Any = None,
        binds: Any = None,
        **options: Any,
    ) -> None:
        if not isinstance(layout, ShardMap):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise Misuse(f"a sharded session needs a ShardMap, got {type(layout).__name__}")
        if bind is not None or binds:
            raise Misuse("a sharded session takes its engines from the layout; leave bind and binds out")
        if commit not in ("single", "best_effort"):
            raise Misuse(f"commit must be 'single' or 'best_effort', got {commit!r}")
        policy: Any = unkeyed
        if policy not in ("allow", "warn", "refuse") and (not isinstance(policy, int) or policy < 1):
            raise Misuse(f"unkeyed must be 'allow', 'warn', 'refuse' or a number of shards >= 1, got {unkeyed!r}")
        super().__init__(**options)
        self.layout = layout
        self.commit_mode: CommitMode = commit
        self.unkeyed: UnkeyedPolicy = unkeyed
        self.at_once = at_once

    # --- where things are ------------------------------------------------------------------------

    def shard_of(self, entity: Any, key: object) -> str:
        """The name of the shard where rows of this entity with this key live."""
        return self.layout.shard_of(entity, key)

    def connection_on(self, shard: str, *, read_only: bool = False) -> Connection:
        """The connection that this session's transaction uses on a shard, begun where it was not yet.

        For code that must share the transaction, such as a TCC barrier: what it writes is committed or rolled back
        with the
        session. It counts as a writer unless `read_only`.

        Raises:
            CrossShardWrite: commit mode `single` and another shard is being written.
        """
        engine = self.layout.engine(shard)
        if not read_only:
            self.enlist({shard})
        connection = self._connection_for_bind(engine)
        unit = self._unit()
        if not read_only and unit is not None:
            unit.handed.add(connection)
        return connection

    def connection_of(self, entity: Any, key: object, *, read_only: bool = False) -> Connection:
        """The same, on the shard of a key."""
        return self.connection_on(self.shard_of(entity, key), read_only=read_only)

    def enlist(self, shards: set[str]) -> None:
        """Count these shards as written by the current unit of work.

        Raises:
            CrossShardWrite: commit mode `single` and there would be two.
        """
        if self._transaction is None:
            self._autobegin_t()
        unit = self._unit()
        assert unit is not None
        if not shards <= unit.writers:
            unit.enlist(shards, self.commit_mode)

    def _unit(self) -> UnitOfWork | None:
        # Not kept: a session and its transaction would hold each other, and every request would wait for the collector.
        transaction: Any = self._transaction
        while transaction is not None and transaction._parent is not None:
            transaction = transaction._parent
        return cast("UnitOfWork | None", transaction)

    # --- SQLAlchemy's hooks ----------------------------------------------------------------------

    def get_bind(
        self,
        mapper: Any = None,
        *,
        clause: Any = None,
        bind: Engine | Connection | None = None,
        shard: str | None = None,
        **_: Any,
    ) -> Engine | Connection:
        """The engine of the shard that was decided on.

        Raises:
            Unroutable: none was: a call that does not say which rows it is about.
        """
        if bind is not None:
            return bind
        chosen = shard or self._forced
        if chosen is None:
            raise Unroutable(
                "this call does not say which shard it is for (bulk_*, many-to-many tables, session.connection())",
                cure="use session.connection_on(shard), or execute(insert(...), rows)",
            )
        return self.layout.engine(chosen)

    def connection_callable(  # pyright: ignore[reportIncompatibleVariableOverride]  # an optional callable there, always one here
        self, mapper: Any = None, instance: Any = None, **_: Any
    ) -> Connection:
        """The connection for one object of a flush."""
        if instance is None:
            return self._connection_for_bind(self.get_bind())
        state = inspect(instance)
        shard = shard_of_state(self, state)
        # A flush also asks for objects that were assigned the value they had, and then writes nothing.
        if state.key is None or instance in self.deleted or self.is_modified(instance):
            self.enlist({shard})
        return self._connection_for_bind(self.layout.engine(shard))

    def _autobegin_t(self, begin: bool = False) -> Any:
        if self._transaction is None and (begin or self.autobegin):
            origin = SessionTransactionOrigin.BEGIN if begin else SessionTransactionOrigin.AUTOBEGIN
            return UnitOfWork(self, origin)
        return super()._autobegin_t(begin)

    def _identity_lookup(
        self,
        mapper: Mapper[Any],
        primary_key_identity: Any,
        identity_token: Any = None,
        passive: Any = PASSIVE_OFF,
        lazy_loaded_from: InstanceState[Any] | None = None,
        execution_options: Any = _NONE,
        bind_arguments: Any = None,
        **options: Any,
    ) -> Any:
        tokens: Any
        if identity_token is not None:
            tokens = (identity_token,)
        else:
            shard = execution_options.get("shard") or (bind_arguments is not None and bind_arguments.get("shard"))
            tokens = (shard,) if shard else self._tokens(mapper, primary_key_identity, lazy_loaded_from)
        found: Any = None
        for token in tokens:
            found = super()._identity_lookup(mapper, primary_key_identity, token, passive, lazy_loaded_from)
            if found is not None:
                return found
        return found

    def _tokens(self, mapper: Mapper[Any], identity: Any, parent: InstanceState[Any] | None) -> Iterable[str]:
        """The shards on which an object with this primary key may be.

        Raises:
            Unroutable: the primary key does not say.
        """
        placement = self.layout.placement(mapper.local_table)
        if placement.broadcast:
            return self.layout.shards
        column, _ = placement.keyed()
        for part, value in zip(mapper.primary_key, identity, strict=True):
            if part is column:
                return (self.layout.shard_of(placement.table, value),)
        if parent is not None and parent.identity_token and self._shares_shard(parent.mapper, mapper):
            return (str(parent.identity_token),)
        if placement.global_id:
            return self.layout.shards
        raise Unroutable(
            f"the primary key of {mapper.class_.__name__} does not say on which shard it lives",
            cure=f"select by {placement.attribute} as well, pass identity_token=session.shard_of(...), or declare"
            " Rule(..., global_id=True)",
        )

    def _shares_shard(self, near: Mapper[Any], far: Mapper[Any]) -> bool:
        return all(self.layout.stays(prop) for prop in near.relationships if prop.mapper is far)

    def bulk_save_objects(self, *_: Any, **__: Any) -> None:
        """Refused: SQLAlchemy's bulk methods take one connection for all rows."""
        raise Unroutable(
            "bulk_* methods cannot be routed", cure="execute(insert(X), rows) is as fast and is split by shard"
        )

    bulk_insert_mappings = bulk_update_mappings = bulk_save_objects

    # --- execute ---------------------------------------------------------------------------------

    def _execute_internal(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Any = _NONE,
        bind_arguments: Any = None,
        _parent_execute_state: Any = None,
        _add_event: Any = None,
        _scalar_result: bool = False,
    ) -> Any:
        call = (_parent_execute_state, _add_event, _scalar_result)
        if not (bind_arguments or execution_options or params) and not getattr(statement, "_execution_options", True):
            known = self.layout.plans.known(statement, self.layout)
            if known is not None:
                return self.on(known, statement, params, execution_options, bind_arguments, call)
        if bind_arguments and bind_arguments.get("bind") is not None:
            return self.on(None, statement, params, execution_options, bind_arguments, call)
        subject = resolved(statement)
        if subject.is_dml:
            shard = self._named(subject, execution_options, bind_arguments)
            if subject.is_insert:
                return insert(self, subject, params, execution_options, bind_arguments, call, shard)
            return write(self, subject, params, execution_options, bind_arguments, call, shard)
        if execution_options or bind_arguments or subject._execution_options:
            shard = self._named(subject, execution_options, bind_arguments)
            if shard is not None:
                return self.on(shard, statement, params, execution_options, bind_arguments, call)
        refuse_unreadable(subject)
        plan, key = self.layout.plans.find(subject, lambda key: plan_select(subject, key, self.layout))
        values = Values(key, params)
        route = plan.route(values, self.layout)
        if len(route) == 1:
            shard = self.layout.shards[route[0]] if route is not ANYWHERE else self._any_shard()
            return self.on(shard, statement, params, execution_options, bind_arguments, call)
        result = self._several(plan, route, subject, params, execution_options, bind_arguments, values, call)
        return result.scalar() if _scalar_result else result

    def on(
        self,
        shard: str | None,
        statement: Any,
        params: Any,
        options: Any,
        bind_arguments: Any,
        call: tuple[Any, Any, bool],
    ) -> Any:
        """Run a statement as it is on one shard, which its objects will remember."""
        if shard is not None:
            bind_arguments = {**bind_arguments, "shard": shard} if bind_arguments else {"shard": shard}
            # Without it rows of different shards with one primary key would become one object (RETURNING too).
            options = self.token_options(shard, options)
        began = monotonic()
        try:
            result = super()._execute_internal(
                statement,
                params,
                execution_options=options,
                bind_arguments=bind_arguments,
                _parent_execute_state=call[0],
                _add_event=call[1],
                _scalar_result=call[2],
            )
        except DBAPIError as error:
            if shard is not None:
                self.layout.meters[shard].failed.n += 1
                error.add_note(f"on shard {shard!r}")
            self.poison(error)
            raise
        if shard is not None:
            meters = self.layout.meters[shard]
            meters.done.n += 1
            meters.took.record(monotonic() - began)
        return result

    def poison(self, error: BaseException) -> None:
        """Make the commit of this unit of work a rollback, unless the failure was inside of a savepoint."""
        unit = self._unit()
        if self._nested_transaction is None and unit is not None:
            unit.failure = error

    def token_options(self, shard: str, options: Any) -> Any:
        if not options:
            known = self.layout.tokens.get(shard)
            if known is None:
                known = self.layout.tokens[shard] = immutabledict({"_sa_orm_load_options": load_options_with(shard)})
            return known
        given = options.get("_sa_orm_load_options")
        if given is not None and given._identity_token == shard:
            return options
        return immutabledict(options).union({"_sa_orm_load_options": load_options_with(shard, given)})

    def _named(self, statement: Any, options: Any, bind_arguments: Any) -> str | None:
        """The shard that a hint names or that the object knows for which SQLAlchemy loads something."""
        named = (bind_arguments and bind_arguments.get("shard")) or options.get("shard")
        named = named or statement._execution_options.get("shard")
        if named is not None:
            self.layout.engine(named)  # refuses an unknown name
            return cast("str", named)
        token = options.get("identity_token") or statement._execution_options.get("identity_token")
        # subqueryload keeps the options of the query that it was made from in the statement
        for load in (options.get("_sa_orm_load_options"), statement._execution_options.get("_sa_orm_load_options")):
            if load is not None and token is None:
                token = load._identity_token
                if token is None and load._lazy_loaded_from is not None:
                    token = load._lazy_loaded_from.identity_token
        outer = top_level_token(options)
        if token is None and outer is not None:
            token = outer
        if token is None:
            return None
        prop = _relationship(statement)
        if prop is None or self.layout.stays(prop):
            return cast("str", token)
        if outer is not None:
            raise Unroutable(
                f"{prop}: what it loads is not known to live on the shard of the object it is loaded for",
                clause=prop.key,
                cure="load it with a select() of its own, by its sharding key",
            )
        return None

    def _any_shard(self) -> str:
        """A shard for what is the same on all: one that the transaction uses already, or the first."""
        unit = self._unit()
        if unit is not None:
            for name in self.layout.shards:
                if self.layout.engines[name] in unit._connections:
                    return name
        return self.layout.shards[0]

    def _several(
        self,
        plan: Plan,
        route: tuple[int, ...],
        statement: Any,
        params: Any,
        options: Any,
        bind_arguments: Any,
        values: Values,
        call: tuple[Any, Any, bool],
    ) -> Any:
        if isinstance(plan.merging, Exception):
            if not route:
                return self.on(self._any_shard(), statement, params, options, bind_arguments, (*call[:2], False))
            raise plan.merging.again()
        merging = plan.merging
        assert merging is not None
        if not route:
            empty = None if merging.aggregates else empty_result(statement)
            if empty is not None:
                return empty
            return self.on(self._any_shard(), statement, params, options, bind_arguments, (*call[:2], False))
        self._check_unkeyed(statement, route, options)
        cut = window(merging, values)
        part, hidden = per_shard(statement, merging, cut)
        from .fanout import fan_out

        return fan_out(self, route, part, params, options, bind_arguments, call, merging, hidden, cut)

    def _check_unkeyed(self, statement: Any, route: tuple[int, ...], options: Any) -> None:
        policy: Any = options.get("unkeyed") or statement._execution_options.get("unkeyed") or self.unkeyed
        if policy == "allow":
            return
        if isinstance(policy, int):
            if len(route) > policy:
                raise Unkeyed(
                    f"the statement would go to {len(route)} shards, and at most {policy} are allowed",
                    clause="WHERE",
                    cure="give the sharding key a value, or raise unkeyed",
                )
            return
        if len(route) < len(self.layout.shards):
            return
        if policy == "refuse":
            raise Unkeyed(
                f"the statement has no sharding key and would go to all {len(route)} shards",
                clause="WHERE",
                cure="give the sharding key a value, or execution_options={'unkeyed': 'allow'}",
            )
        warnings.warn(f"a statement without sharding key goes to all {len(route)} shards", UserWarning, stacklevel=5)

    # --- objects ---------------------------------------------------------------------------------

    def merge(self, instance: Any, **options: Any) -> Any:
        """As `Session.merge`; the object and what the merge cascades to are looked for on their own shards."""
        state: InstanceState[Any] = inspect(instance)
        reached = {id(state): state}
        reached |= {id(other): other for _, _, other, _ in state.mapper.cascade_iterator("merge", state)}
        for one in reached.values():
            if one.key is None:
                placement_of(self, one.mapper)
                shard_of_state(self, one)
        return super().merge(instance, **options)


def _relationship(statement: Any) -> RelationshipProperty[Any] | None:
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    for part in reversed(path.path if path is not None else ()):
        if is_kind(part, RelationshipProperty):
            return cast("RelationshipProperty[Any]", part)
    return None


event.listen(ShardedSession, "before_flush", check_flush)
