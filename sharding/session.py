"""The session that finds the shard: SQLAlchemy's own, with routing in front of `execute` and of the flush."""

from __future__ import annotations

from typing import Any, Literal, cast

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstanceState, Mapper, Session
from sqlalchemy.util import immutabledict

from backstay.clock import monotonic
from backstay.errors import Misuse

from .errors import Unroutable
from .hints import named_shard
from .identity import shards_of_identity
from .internals import PASSIVE_OFF, SessionTransactionOrigin, load_options_with
from .layout import ShardMap
from .placing import check_flush, placement_of, shard_of_state
from .plans import ANYWHERE, Values, plan_select
from .reads import any_shard, read_several
from .routing import refuse_unreadable, resolved
from .unit import UnitOfWork, unit_of
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
        unit = unit_of(self)
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
        unit = unit_of(self)
        assert unit is not None
        if not shards <= unit.writers:
            unit.enlist(shards, self.commit_mode)

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
            tokens = (shard,) if shard else shards_of_identity(self, mapper, primary_key_identity, lazy_loaded_from)
        found: Any = None
        for token in tokens:
            found = super()._identity_lookup(mapper, primary_key_identity, token, passive, lazy_loaded_from)
            if found is not None:
                return found
        return found

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
            shard = named_shard(self, subject, execution_options, bind_arguments)
            if subject.is_insert:
                return insert(self, subject, params, execution_options, bind_arguments, call, shard)
            return write(self, subject, params, execution_options, bind_arguments, call, shard)
        if execution_options or bind_arguments or subject._execution_options:
            shard = named_shard(self, subject, execution_options, bind_arguments)
            if shard is not None:
                return self.on(shard, statement, params, execution_options, bind_arguments, call)
        refuse_unreadable(subject)
        plan, key = self.layout.plans.find(subject, lambda key: plan_select(subject, key, self.layout))
        values = Values(key, params)
        route = plan.route(values, self.layout)
        if len(route) == 1:
            shard = self.layout.shards[route[0]] if route is not ANYWHERE else any_shard(self)
            return self.on(shard, statement, params, execution_options, bind_arguments, call)
        result = read_several(self, plan, route, subject, params, execution_options, bind_arguments, values, call)
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
        unit = unit_of(self)
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


event.listen(ShardedSession, "before_flush", check_flush)
