"""Group commit on SQLite: one flush for everybody in the queue, and nobody pays for another's mistake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from backstay.blocking import drive
from backstay.errors import Unavailable
from backstay.txn.errors import JournalUnanswered
from backstay.txn.journals.database import BlockingDatabase, Waiting
from backstay.txn.journals.opening import blocking_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[BlockingDatabase]:
    made = blocking_database(f"sqlite:///{tmp_path}/journal.db")
    drive(made.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))))
    yield made
    drive(made.close())


def insert(connection: Connection, number: int) -> int:
    connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
    return number


def numbers(database: BlockingDatabase) -> list[int]:
    return drive(database.read(lambda connection: list(connection.scalars(text("SELECT n FROM t ORDER BY n")))))


def group(database: BlockingDatabase, *wanted: int) -> list[Waiting]:
    made = [Waiting(partial(insert, number=number)) for number in wanted]
    database.run_group(made)
    return made


def test_a_group_is_committed_once(database: BlockingDatabase) -> None:
    commits: list[int] = []
    event.listen(database.engine, "commit", lambda connection: commits.append(1))
    assert [one.outcome() for one in group(database, 1, 2, 3)] == [1, 2, 3]
    assert (len(commits), numbers(database)) == (1, [1, 2, 3])


def test_one_that_fails_fails_alone(database: BlockingDatabase) -> None:
    first, double, last = group(database, 1, 1, 2)
    assert (first.outcome(), last.outcome()) == (1, 2)
    with pytest.raises(Unavailable, match="nothing was written"):
        double.outcome()
    assert numbers(database) == [1, 2]


def test_an_interrupted_group_leaves_nobody_waiting(database: BlockingDatabase) -> None:
    def interrupt(connection: Connection) -> None:
        raise KeyboardInterrupt

    pair = [Waiting(lambda connection: insert(connection, 1)), Waiting(interrupt)]
    with pytest.raises(KeyboardInterrupt):
        database.run_group(pair)
    for one in pair:
        with pytest.raises(JournalUnanswered):
            one.outcome()
    assert numbers(database) == []


def test_many_threads_write_everything_with_fewer_commits(database: BlockingDatabase) -> None:
    commits: list[int] = []
    event.listen(database.engine, "commit", lambda connection: commits.append(1))
    start = threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait(10)
        for number in range(25):
            drive(database.write(partial(insert, number=thread * 100 + number)))

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(work, range(8)))
    assert numbers(database) == sorted(thread * 100 + number for thread in range(8) for number in range(25))
    assert len(commits) < 200
