"""What is asked of a manager that was closed, before and after: nothing is left open, and no lease without an owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, func, select

from backstay.blocking import drive
from backstay.errors import Misuse
from backstay.txn import Outcome, TransactionCancelled, TransactionManager
from backstay.txn.journals.schema import coordinators
from unit.txn.conftest import Recorded


class Connections:
    """Those that a manager's journal has made; listens from now on."""

    def __init__(self, manager: TransactionManager) -> None:
        self._made: list[Any] = []
        journal: Any = manager.company.journal
        event.listen(journal._database.engine, "connect", lambda made, record: self._made.append(made))

    @property
    def open(self) -> int:
        return sum(self._is_open(made) for made in self._made)

    @staticmethod
    def _is_open(made: Any) -> bool:
        try:
            return bool(made.total_changes >= 0)
        except sqlite3.ProgrammingError:
            return False


def leases(manager: TransactionManager) -> int:
    journal: Any = manager.company.journal
    drive(journal.prepare())
    return int(drive(journal._database.read(lambda one: one.scalar(select(func.count()).select_from(coordinators)))))


def test_a_closed_manager_says_so(connect: Callable[..., TransactionManager], stock: Recorded) -> None:
    manager = connect()
    with manager.tcc() as tx:
        tx.call(stock.action)
    manager.close()
    manager.close()
    with pytest.raises(Misuse, match="closed"), manager.tcc():
        pytest.fail("not entered")


@pytest.mark.parametrize(
    "ask",
    [
        lambda manager: manager.start(),
        lambda manager: manager.recover(),
        lambda manager: manager.outcome("tcc-0"),
        lambda manager: manager.find("k"),
        lambda manager: manager.purge(age=1.0),
        lambda manager: manager.tcc().__enter__(),
    ],
)
def test_a_closed_manager_does_not_join_its_journal_again(
    connect: Callable[..., TransactionManager], ask: Callable[[TransactionManager], Any]
) -> None:
    manager = connect()
    connections = Connections(manager)
    manager.start()
    assert connections.open > 0
    manager.close()
    with pytest.raises(Misuse, match="closed; connect another"):
        ask(manager)
    assert (manager.company.cast.seat.lease, connections.open) == (None, 0)


def test_a_lease_that_arrives_after_the_closing_is_given_back(
    connect: Callable[..., TransactionManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, other = connect(), connect()
    connections = Connections(manager)
    journal: Any = manager.company.journal
    join = journal.join

    async def slow(*arguments: Any) -> Any:
        lease = await join(*arguments)
        manager.close()
        return lease

    monkeypatch.setattr(journal, "join", slow)
    with pytest.raises(Misuse, match="closed while it joined"):
        manager.start()
    assert (manager.company.cast.seat.lease, connections.open) == (None, 0)
    assert leases(other) == 0
    other.start()
    assert leases(other) == 1


def test_a_block_that_outlives_its_manager_leaves_no_connection_open(
    connect: Callable[..., TransactionManager], stock: Recorded, log: list[str]
) -> None:
    manager, other = connect(), connect()
    connections = Connections(manager)
    with pytest.raises(TransactionCancelled), manager.tcc() as tx:
        tx.call(stock.action)
        manager.close()
        assert other.recover() == 1
    assert other.outcome(tx.gtrid) is Outcome.CANCELLED
    assert log == ["try stock", "cancel stock"]
    assert connections.open == 0


def test_what_was_closed_before_a_fork_stays_closed_in_the_child(connect: Callable[..., TransactionManager]) -> None:
    manager = connect()
    manager.close()
    connections = Connections(manager)
    manager.company.reborn()  # as the hook does that runs in a forked child
    with pytest.raises(Misuse, match="closed; connect another"):
        manager.start()
    assert connections.open == 0
