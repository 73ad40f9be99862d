"""The disorder set of section 3.2.6 with two transactions at once, on real databases."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from backstay.txn import Barrier, Branch, Participant, Phase, TryRefused
from backstay.txn.values import Answer

LONG = 20.0


@pytest.fixture
def engine(any_url: str) -> Iterator[Engine]:
    made = create_engine(any_url)
    Barrier.create(made)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE stock (id INTEGER PRIMARY KEY, free INTEGER, held INTEGER)"))
        connection.execute(text("INSERT INTO stock VALUES (1, 10, 0)"))
    yield made
    made.dispose()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as made:
        yield made


def branch(gtrid: str, phase: Phase) -> Branch:
    return Branch(gtrid=gtrid, id="1", phase=phase, payload={"n": 1})


def reserve(connection: Connection) -> None:
    connection.execute(text("UPDATE stock SET free = free - 1, held = held + 1 WHERE id = 1"))


def give_back(connection: Connection) -> None:
    connection.execute(text("UPDATE stock SET free = free + 1, held = held - 1 WHERE id = 1"))


def spend(connection: Connection) -> None:
    connection.execute(text("UPDATE stock SET held = held - 1 WHERE id = 1"))


def stock(engine: Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        row = connection.execute(text("SELECT free, held FROM stock")).one()
        return row.free, row.held


def serve(engine: Engine, request: Branch, work: Callable[[Connection], None], ran: list[Phase]) -> None:
    with engine.begin() as connection:

        def function(filled: Branch) -> None:
            ran.append(filled.phase)
            work(connection)

        Barrier(engine).call(connection, request, function)


class Slow:
    """A try that has written and waits, inside its transaction, for the test to say how it ends."""

    def __init__(self, engine: Engine, gtrid: str, pool: ThreadPoolExecutor) -> None:
        self.inside, self.go, self.fails = threading.Event(), threading.Event(), False
        self.ran: list[Phase] = []
        self._engine = engine
        self.future: Future[None] = pool.submit(serve, engine, branch(gtrid, Phase.TRY), self._work, self.ran)
        assert self.inside.wait(LONG)

    def _work(self, connection: Connection) -> None:
        reserve(connection)
        self.inside.set()
        assert self.go.wait(LONG)
        if self.fails:
            raise LookupError("the try failed after all")


def blocked(future: Future[Any], *, seconds: float = 0.3) -> bool:
    """Return whether the work is still under way after a while; being blocked is what is tested."""
    time.sleep(seconds)
    return not future.done()


def test_a_cancel_waits_for_the_try_in_flight_and_then_undoes_it(engine: Engine, pool: ThreadPoolExecutor) -> None:
    gtrid, ran = secrets.token_hex(8), list[Phase]()
    slow = Slow(engine, gtrid, pool)
    cancel = pool.submit(serve, engine, branch(gtrid, Phase.CANCEL), give_back, ran)
    assert blocked(cancel)
    slow.go.set()
    slow.future.result(LONG)
    cancel.result(LONG)
    assert ran == [Phase.CANCEL]
    assert stock(engine) == (10, 0)


def test_a_cancel_is_null_when_the_try_in_flight_rolls_back(engine: Engine, pool: ThreadPoolExecutor) -> None:
    gtrid, ran = secrets.token_hex(8), list[Phase]()
    slow = Slow(engine, gtrid, pool)
    cancel = pool.submit(serve, engine, branch(gtrid, Phase.CANCEL), give_back, ran)
    assert blocked(cancel)
    slow.fails = True
    slow.go.set()
    with pytest.raises(LookupError):
        slow.future.result(LONG)
    cancel.result(LONG)
    assert ran == []
    with pytest.raises(TryRefused, match="late try"):
        serve(engine, branch(gtrid, Phase.TRY), reserve, ran)
    assert stock(engine) == (10, 0)


def test_a_copy_of_the_try_waits_and_changes_nothing(engine: Engine, pool: ThreadPoolExecutor) -> None:
    gtrid, ran = secrets.token_hex(8), list[Phase]()
    slow = Slow(engine, gtrid, pool)
    copy = pool.submit(serve, engine, branch(gtrid, Phase.TRY), reserve, ran)
    assert blocked(copy)
    slow.go.set()
    slow.future.result(LONG)
    copy.result(LONG)
    assert ran == []
    assert stock(engine) == (9, 1)


def test_of_confirm_and_cancel_side_by_side_one_runs_and_one_errs(engine: Engine, pool: ThreadPoolExecutor) -> None:
    for _ in range(15):
        gtrid, ran = secrets.token_hex(8), list[Phase]()
        serve(engine, branch(gtrid, Phase.TRY), reserve, [])
        before = stock(engine)
        confirm = pool.submit(_told, engine, branch(gtrid, Phase.CONFIRM), spend, ran)
        cancel = pool.submit(_told, engine, branch(gtrid, Phase.CANCEL), give_back, ran)
        assert sorted([confirm.result(LONG), cancel.result(LONG)]) == ["alarm", "done"]
        assert len(ran) == 1
        free, held = stock(engine)
        assert (free - before[0], held - before[1]) == ((1, -1) if ran == [Phase.CANCEL] else (0, -1))


@pytest.mark.parametrize("phase", [Phase.CONFIRM, Phase.CANCEL])
def test_two_copies_side_by_side_run_once(engine: Engine, pool: ThreadPoolExecutor, phase: Phase) -> None:
    work = spend if phase is Phase.CONFIRM else give_back
    for _ in range(15):
        gtrid, ran = secrets.token_hex(8), list[Phase]()
        serve(engine, branch(gtrid, Phase.TRY), reserve, [])
        copies = [pool.submit(_told, engine, branch(gtrid, phase), work, ran) for _ in range(3)]
        assert [copy.result(LONG) for copy in copies] == ["done"] * 3
        assert ran == [phase]


def _told(engine: Engine, request: Branch, work: Callable[[Connection], None], ran: list[Phase]) -> str:
    # As participants do it: what a database gave up for another transaction is repeated.
    participant = Participant(
        "stock",
        engine,
        try_=lambda connection, filled, n: work(connection),
        confirm=lambda connection, filled, n: _note(ran, filled, work, connection),
        cancel=lambda connection, filled, n: _note(ran, filled, work, connection),
        lock_timeout=10.0,
    )
    reply = participant.perform(request)
    assert reply.answer in (Answer.DONE, Answer.ALARM), reply
    return reply.answer.value


def _note(ran: list[Phase], filled: Branch, work: Callable[[Connection], None], connection: Connection) -> None:
    work(connection)
    ran.append(filled.phase)


def test_B4_eight_threads_on_one_barrier_lose_nothing(engine: Engine, pool: ThreadPoolExecutor) -> None:
    """The barrier of row 11: many transactions at once, each tried, doubled and ended."""

    def work(number: int) -> list[str]:
        gtrid = f"{number:04}-{secrets.token_hex(4)}"
        end = Phase.CONFIRM if number % 2 else Phase.CANCEL
        told: list[str] = []
        for phase in (Phase.TRY, Phase.TRY, end, end):
            function = {Phase.TRY: reserve, Phase.CONFIRM: spend, Phase.CANCEL: give_back}[phase]
            told.append(_told(engine, branch(gtrid, phase), function, []))
        return told

    with engine.begin() as connection:
        connection.execute(text("UPDATE stock SET free = 1000"))
    results = list(pool.map(work, range(80)))
    assert results == [["done"] * 4] * 80
    assert stock(engine) == (1000 - 40, 0)


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_for_ever(
    postgres_url: str, pool: ThreadPoolExecutor
) -> None:
    engine = create_engine(postgres_url)
    Barrier.create(engine)
    gtrid = secrets.token_hex(8)
    participant = Participant("stock", engine, try_=_nothing, confirm=_nothing, cancel=_nothing, lock_timeout=0.2)
    with engine.connect() as holder:
        Barrier(engine).call(_begun(holder), branch(gtrid, Phase.TRY), lambda _: None)
        reply = pool.submit(participant.perform, branch(gtrid, Phase.CANCEL)).result(LONG)
        assert reply.answer is Answer.UNKNOWN
        assert "lock timeout" in reply.text
        holder.rollback()
    assert participant.perform(branch(gtrid, Phase.CANCEL)).answer is Answer.DONE
    engine.dispose()


def _begun(connection: Connection) -> Connection:
    connection.begin()
    return connection


def _nothing(connection: Connection, filled: Branch, *, n: int) -> None:
    return None
