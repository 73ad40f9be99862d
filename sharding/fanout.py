"""The same SELECT on several shards: one after the other when they are fast, at once when they are slow (E1).

At once is safe because the work is split: the session is touched by the calling thread only (autoflush, connections,
loading);
threads get nothing but `connection.execute`, one connection each. All of them are joined before anything is raised,
so no connection is closed while in use. Under asyncio greenlets take the place of threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only, greenlet_spawn

from backstay.blocking import BlockingRuntime, drive
from backstay.clock import monotonic

from .aggregates import divide_as_sqlite
from .internals import Phases
from .mergeable import Merging
from .scatter import Window, gathered
from .telemetry import ShardMeters

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["fan_out"]

_RUNTIME = BlockingRuntime()


def fan_out(
    session: ShardedSession,
    route: Sequence[int],
    statement: Any,
    params: Any,
    options: Any,
    bind_arguments: Any,
    call: tuple[Any, Any, bool],
    merging: Merging,
    hidden: int,
    cut: Window,
) -> Any:
    """Run the statement on each shard of the route, and merge."""
    layout = session.layout
    shards = [layout.shards[at] for at in route]
    results: list[Any] = []
    if _at_once(session, call):
        results = _at_the_same_time(session, shards, statement, params, options, bind_arguments)
    else:
        try:
            for shard in shards:
                began = monotonic()
                results.append(session.on(shard, statement, params, options, bind_arguments, (*call[:2], False)))
                layout.pace.record(monotonic() - began)
        except BaseException:
            for result in results:
                result.close()
            raise
    streaming = bool(_option("yield_per", options, statement) or _option("stream_results", options, statement))
    divide = _divider(session, shards[0])
    return gathered(results, shards, merging, hidden, cut, streaming=streaming, divide=divide)


def _option(name: str, options: Any, statement: Any) -> Any:
    return options.get(name, statement._execution_options.get(name))


def _at_once(session: ShardedSession, call: tuple[Any, Any, bool]) -> bool:
    if call[0] is not None or call[1] is not None or any(map(_sees_reads, session.dispatch.do_orm_execute)):
        return False  # hooks of the user's see one statement after the other
    if session.layout.dialect == "sqlite" and not session.layout.async_engines:
        return False  # a connection of an in-memory database belongs to its thread
    return session.layout.pace.slow if session.at_once is None else session.at_once


def _sees_reads(hook: Any) -> bool:
    return not getattr(hook, "only_writes", False)


def _at_the_same_time(
    session: ShardedSession, shards: Sequence[str], statement: Any, params: Any, options: Any, bind_arguments: Any
) -> list[Any]:
    phases = [
        Phases(session, statement, params, session.token_options(shard, options), bind_arguments) for shard in shards
    ]
    for phase in phases[:1]:
        phase.autoflush()
    # One after the other: a session refuses to provision two connections at the same time.
    connections = [session.connection_on(shard, read_only=True) for shard in shards]
    took: list[float] = []

    def job(phase: Phases, connection: Connection, meters: ShardMeters) -> Callable[[], Any]:
        def run() -> Any:
            began = monotonic()
            try:
                result = phase.execute(connection)
            except DBAPIError:
                meters.failed.n += 1
                raise
            finally:
                took.append(monotonic() - began)
            meters.done.n += 1
            meters.took.record(took[-1])
            return result

        return run

    meters = [session.layout.meters[shard] for shard in shards]
    jobs = [job(*each) for each in zip(phases, connections, meters, strict=True)]
    outcomes = _greenlets(jobs) if session.layout.async_engines else _threads(jobs)
    session.layout.pace.record(max(took))
    failures = [(shard, one) for shard, one in zip(shards, outcomes, strict=True) if isinstance(one, BaseException)]
    if failures:
        for one in outcomes:
            if not isinstance(one, BaseException):
                one.close()
        shard, error = failures[0]
        if isinstance(error, DBAPIError):
            error.add_note(f"on shard {shard!r}")
            session.poison(error)
        raise error
    return [phase.load(outcome) for phase, outcome in zip(phases, outcomes, strict=True)]


def _threads(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    def work(job: Callable[[], Any]) -> Callable[[], Any]:
        async def run() -> Any:
            return job()

        return run

    return drive(_RUNTIME.gather(*(work(job) for job in jobs)))


def _greenlets(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    async def gather() -> list[Any]:
        return await asyncio.gather(*(greenlet_spawn(job) for job in jobs), return_exceptions=True)

    return await_only(gather())


def _divider(session: ShardedSession, shard: str) -> Callable[[Any, int], Any]:
    """SUM / COUNT as the database computes AVG: its own scale and rounding (asked of one shard)."""
    if session.layout.dialect == "sqlite":
        return divide_as_sqlite
    postgresql = session.layout.dialect == "postgresql"
    quotient = text(
        "SELECT CAST(:total AS NUMERIC) / CAST(:count AS NUMERIC)" if postgresql else "SELECT :total / :count"
    )

    def divide(total: Any, count: int) -> Any:
        values = {"total": Decimal(total), "count": Decimal(count)}
        return session.connection_on(shard, read_only=True).execute(quotient, values).scalar_one()

    return divide
