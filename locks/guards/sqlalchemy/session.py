"""The block in which a session writes under a lease, and ORM statements (bulk writes) inside it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, overload

from sqlalchemy import CursorResult, Delete, Insert, Result, Update, event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.attributes import set_committed_value

from backstay.errors import Misuse
from backstay.locks.guards.errors import StaleFence
from backstay.locks.guards.token import Fenced, FencingToken, token_of

from .column import Offered
from .row import OFFER, FencedRow, offered, watch

__all__ = ["AsyncFencing", "Fencing", "fenced"]


class Fencing:
    """A block in which a session's fenced rows are written with one fence; see `fenced`."""

    def __init__(self, session: Session, lease: Fenced) -> None:
        self._session, self._token = session, token_of(lease)
        self._before: FencingToken | None = None

    def __enter__(self) -> FencingToken:
        self._before = self._session.info.get(OFFER)
        if self._before is not None:
            self._session.flush()  # what was changed under the outer block's lock is written with its fence
        self._session.info[OFFER] = self._token
        return self._token

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._session.flush()
        finally:
            if self._before is None:
                del self._session.info[OFFER]
            else:
                self._session.info[OFFER] = self._before


class AsyncFencing:
    """A block in which an asyncio session's fenced rows are written with one fence; see `fenced`."""

    def __init__(self, session: AsyncSession, lease: Fenced) -> None:
        self._session, self._inner = session, Fencing(session.sync_session, lease)

    async def __aenter__(self) -> FencingToken:
        return await self._session.run_sync(lambda _: self._inner.__enter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.run_sync(lambda _: self._inner.__exit__(kind, error, traceback))


@overload
def fenced(session: Session, lease: Fenced) -> Fencing: ...
@overload
def fenced(session: AsyncSession, lease: Fenced) -> AsyncFencing: ...
def fenced(session: Session | AsyncSession, lease: Fenced) -> Fencing | AsyncFencing:
    """Return a block in which everything that `session` writes to fenced rows carries the lease's fence.

        with fenced(session, lease): ...                 async with fenced(async_session, lease): ...

    Flushes, commits and `session.execute()` of ORM inserts, updates and deletes inside the block are guarded;
    leaving it flushes. Blocks for two locks may be nested, for rows that are guarded by different ones.

    Args:
        session: a Session or AsyncSession.
        lease: a lease, or the `FencingToken` that came from its holder.

    Raises:
        Misuse: one of the two is something else.
        StaleFence (inside and when leaving): a row was written by a later holder; the transaction is rolled back.
    """
    given: Any = session
    if isinstance(given, AsyncSession):
        return AsyncFencing(given, lease)
    if not isinstance(given, Session):
        raise Misuse(f"fenced() takes a Session or an AsyncSession, got {type(given).__name__}")
    return Fencing(given, lease)


def _execute(state: ORMExecuteState) -> Result[Any] | None:
    """Guard an ORM statement that writes; a listener of all sessions, since any may be given fenced rows."""
    statement: Any = state.statement
    if not isinstance(statement, (Insert, Update, Delete)) or not state.is_orm_statement:
        return None
    mapper: Mapper[Any] | None = state.bind_mapper
    if mapper is None or not issubclass(mapper.class_, FencedRow):
        return None
    token = offered(state.session, mapper.class_.__name__)
    try:
        if isinstance(statement, Insert):
            return _inserted(state, statement, token)
        if isinstance(statement, Update) and state.is_executemany:
            return _updated_by_key(state, token)
        return _matched(state, statement, mapper, token)
    except StaleFence:
        state.session.rollback()  # as a flush does: what else the transaction wrote is as late as this
        raise


def _inserted(state: ORMExecuteState, statement: Any, token: FencingToken) -> Result[Any]:
    if getattr(statement, "_post_values_clause", None) is not None:
        raise Misuse("an upsert of fenced rows goes by TableGuard(...).upsert(), which compares fences")
    if state.is_executemany:
        rows: Any = [{"fence": token.fence}] * len(list(state.parameters or ()))
        return state.invoke_statement(params=rows)
    if state.parameters:
        return state.invoke_statement(params={"fence": token.fence})
    return state.invoke_statement(statement.values(fence=token.fence))


def _updated_by_key(state: ORMExecuteState, token: FencingToken) -> Result[Any]:
    watch(state.session.connection(bind_arguments=dict(state.bind_arguments)))
    rows: Any = [{"fence": Offered.of(token)}] * len(list(state.parameters or ()))
    return state.invoke_statement(params=rows)


def _matched(
    state: ORMExecuteState, statement: Update | Delete, mapper: Mapper[Any], token: FencingToken
) -> Result[Any]:
    fence: Any = mapper.class_.fence
    if "fence" not in mapper.local_table.c:
        raise Misuse(
            f"the fence of {mapper.class_.__name__} is in a table of its base class, which this statement cannot "
            "compare as it writes; change the objects and flush them"
        )
    guarded: Any = statement.where(fence <= token.fence)
    if isinstance(guarded, Update):
        guarded = guarded.values(fence=token.fence)
    result = state.invoke_statement(guarded)
    # Rows that were passed over still match what the statement asked for.
    newer = select(fence).where(fence > token.fence).order_by(fence.desc()).limit(1).with_for_update()
    if statement.whereclause is not None:
        newer = newer.where(statement.whereclause)
    parameters: Any = state.parameters
    highest = state.session.execute(newer, parameters, execution_options={"autoflush": False}).scalar()
    if highest is not None:
        if isinstance(result, CursorResult):
            result.close()
        raise StaleFence.at(
            f"a row of {mapper.local_table.description!r}", lock=token.name, fence=token.fence, highest=highest
        )
    return result


def _before_flush(session: Session, context: Any, instances: Any) -> None:
    # A row that post_update empties before it is deleted is written before `before_delete` is told of it.
    token: FencingToken | None = session.info.get(OFFER)
    if token is not None:
        for target in session.deleted:
            if isinstance(target, FencedRow):
                set_committed_value(target, "fence", Offered.of(token))


_execute.only_writes = True  # type: ignore[attr-defined]  # so a scatter of reads need not go in turn for it
event.listen(Session, "do_orm_execute", _execute)
event.listen(Session, "before_flush", _before_flush)
