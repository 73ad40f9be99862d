"""Two accounts in a database of their own, and a process that transfers between them and dies where it is told."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from backstay.blocking import BlockingRuntime, drive
from backstay.txn import Branch, Participant, Settings, TransactionManager, TryRefused
from backstay.txn.cast import Cast
from backstay.txn.journal import BranchRecord, BranchUpdate, Lease
from backstay.txn.journals.database import BlockingDatabase
from backstay.txn.journals.engines import engine as journal_engine
from backstay.txn.journals.sql import SqlJournal
from backstay.txn.tcc.states import Event, State
from backstay.txn.tcc.transport import Request
from backstay.txn.tcc.transports.local import Local
from backstay.txn.tcc.work import Call
from backstay.txn.values import Branch as Value, Phase, Reply, Target

START = 100
NAMES = ("giro", "savings")

CANCELLED_INSIDE = 11
CONFIRMED_INSIDE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The `nth` time that a step is taken; `when` is before it, in its middle (done, reply lost) or after it."""

    step: str
    nth: int = 1
    when: str = "before"

    def __str__(self) -> str:
        return f"{self.step}-{self.nth}-{self.when}"


def in_child(work: Callable[[], int | None]) -> tuple[int, int]:
    """Run `work` in a forked child; return pid and status: negative for a signal, -SIGSTOP while it is stopped."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work() or 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, os.WUNTRACED)
    return pid, -os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


class Bank:
    """The participants' database, the journal, and what the present process does at its point."""

    def __init__(self, journal: str, business: str) -> None:
        self.journal_url, self.business_url = journal, business
        # A connection of its own for each transaction: nothing is carried over a fork.
        # A stopped process may hold SQLite's write lock, and recovery must not wait for it for long.
        options = {"timeout": 0.2} if business.startswith("sqlite") else {}
        self.engine = create_engine(business, poolclass=NullPool, connect_args=options)
        self.participants = [self._participant(name) for name in NAMES]

    def create(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE account (name VARCHAR(20) PRIMARY KEY, free INTEGER, held INTEGER, spent INTEGER)")
            )
            for name in NAMES:
                connection.execute(
                    text("INSERT INTO account VALUES (:name, :free, 0, 0)"), {"name": name, "free": START}
                )
        # Tables first: a crash while they are made is another test.
        with self.manager() as manager:
            manager.start()
        for participant in self.participants:
            participant.perform(Value(gtrid="warm", id=participant.name, phase=Phase.CANCEL, payload={"units": 0}))

    def _participant(self, name: str) -> Participant:
        def reserve(connection: Connection, branch: Branch, *, units: int) -> None:
            found = connection.execute(
                text("UPDATE account SET free = free - :n, held = held + :n WHERE name = :name AND free >= :n"),
                {"n": units, "name": name},
            )
            if found.rowcount != 1:
                raise TryRefused(f"{name} has fewer than {units}")

        def spend(connection: Connection, branch: Branch, *, units: int) -> None:
            statement = text("UPDATE account SET held = held - :n, spent = spent + :n WHERE name = :name")
            connection.execute(statement, {"n": units, "name": name})

        def give_back(connection: Connection, branch: Branch, *, units: int) -> None:
            statement = text("UPDATE account SET held = held - :n, free = free + :n WHERE name = :name")
            connection.execute(statement, {"n": units, "name": name})

        return Participant(name, self.engine, try_=reserve, confirm=spend, cancel=give_back, lock_timeout=0.3)

    def manager(self, **settings: Any) -> TransactionManager:
        chosen = Settings(**{"recovery": False, "patience": 5.0, **settings})
        return TransactionManager.connect(self.journal_url, actions=self.participants, settings=chosen)

    def rows(self) -> dict[str, tuple[int, int, int]]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT name, free, held, spent FROM account"))
            return {row.name: (row.free, row.held, row.spent) for row in found}

    def states(self) -> list[State]:
        with create_engine(self.journal_url, poolclass=NullPool).connect() as connection:
            return [State(found) for found in connection.scalars(text("SELECT state FROM backstay_txn_transaction"))]

    def recover(self) -> None:
        """Take over, from living coordinators too, and finish."""
        with self.manager() as manager:
            lease = drive(manager.company.cast.seat.take())
            drive(manager.company.journal.fence(lease))
            while manager.recover():
                pass

    def in_child(self, work: Callable[[], int | None]) -> int:
        """Run `work` in a forked child; see `in_child`."""
        self.pid, status = in_child(work)
        return status

    def resume(self) -> int:
        """Let a stopped child go on to its end; return its exit status."""
        os.kill(self.pid, signal.SIGCONT)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def transfer(self, point: Point, how: signal.Signals, *, fail: bool) -> int:
        """One transaction over both accounts; at `point` the process gets the signal `how`."""
        at = _At(point, how)
        journal = _Journal(journal_engine(self.journal_url), at)
        settings = Settings(recovery=False, patience=5.0)
        cast = Cast(
            journal=journal,
            transport=_Transport({one.name: one for one in self.participants}, at),
            runtime=BlockingRuntime(),
            settings=settings,
            background=False,
        )

        async def work() -> int:
            running = await cast.coordinator.begin("transfer", None)
            error: Exception | None = None
            try:
                for name in NAMES:
                    target = Target(kind="action", address=name)
                    await cast.coordinator.call(running, [Call(target=target, payload={"units": 7})])
                if fail:
                    raise LookupError("the block failed")
            except Exception as failure:
                error = failure
            try:
                await cast.coordinator.leave(running, error)
            except Exception as failure:
                error = failure
            return CONFIRMED_INSIDE if error is None else CANCELLED_INSIDE

        return drive(work())


class _At:
    """Counts steps and sends the signal at the chosen one."""

    def __init__(self, point: Point, how: signal.Signals) -> None:
        self._point, self._how = point, how
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def take(self, step: str) -> int:
        return next(self._numbers[step])  # confirms run in two threads

    def reached(self, step: str, nth: int, when: str) -> None:
        if self._point == Point(step=step, nth=nth, when=when):
            os.kill(os.getpid(), self._how)


class _Journal(SqlJournal):
    def __init__(self, engine: Any, at: _At) -> None:
        self._wire = _Database(engine, at)
        super().__init__(self._wire)
        self._at = at

    async def _step(self, name: str, work: Callable[[], Any]) -> Any:
        nth = self._at.take(name)
        self._at.reached(name, nth, "before")
        self._wire.step = (name, nth)
        try:
            result = await work()
        finally:
            self._wire.step = ("", 0)
        self._at.reached(name, nth, "after")
        return result

    async def open(
        self, lease: Lease, gtrid: str, key: str | None, deadline: float, branches: Sequence[BranchRecord]
    ) -> bool:
        result: bool = await self._step("open", lambda: SqlJournal.open(self, lease, gtrid, key, deadline, branches))
        return result

    async def enlist(
        self, lease: Lease, gtrid: str, branches: Sequence[BranchRecord], tried: Sequence[BranchUpdate]
    ) -> bool:
        result: bool = await self._step("enlist", lambda: SqlJournal.enlist(self, lease, gtrid, branches, tried))
        return result

    async def decide(self, lease: Lease, gtrid: str, event: Event, **options: Any) -> State | None:
        result: State | None = await self._step(
            "decide", lambda: SqlJournal.decide(self, lease, gtrid, event, **options)
        )
        return result

    async def settle(self, gtrid: str, updates: Sequence[BranchUpdate], delay: float) -> State | None:
        result: State | None = await self._step("settle", lambda: SqlJournal.settle(self, gtrid, updates, delay))
        return result


class _Database(BlockingDatabase):
    """Dies between COMMIT and its answer."""

    def __init__(self, engine: Any, at: _At) -> None:
        super().__init__(engine)
        self._at = at
        self.step = ("", 0)

    async def write(self, operation: Callable[[Connection], Any]) -> Any:
        result = await super().write(operation)
        self._at.reached(*self.step, "middle")
        return result


class _Transport(Local):
    def __init__(self, actions: dict[str, Participant], at: _At) -> None:
        super().__init__(actions)
        self._at = at

    async def send(self, request: Request) -> Reply:
        step = request.branch.phase.value
        nth = self._at.take(step)
        self._at.reached(step, nth, "before")
        reply = await super().send(request)
        self._at.reached(step, nth, "middle")  # done at the other side, the reply never read
        self._at.reached(step, nth, "after")
        return reply
