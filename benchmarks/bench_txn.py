"""TCC over two in-process branches, beside the same five local transactions written by hand, without a way back.

By hand: two tries, a decision row and two confirms on raw driver connections, tries and confirms side by side where
the database has two writers. It keeps no branches, no barrier results and no leases, so nobody could finish what it
leaves when it dies; Backstay writes two commits more for that. SQLite files; with `BACKSTAY_TEST_POSTGRES_URL` the
case runs on that server's own database as well.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection, create_engine, event, make_url, text

from backstay.txn import Branch, Participant, Settings, TransactionManager

from .harness import Case

UNITS = 10**9
TABLE = "CREATE TABLE IF NOT EXISTS bench_{} (id INTEGER PRIMARY KEY, free BIGINT, held BIGINT)"


def cases() -> Iterator[Case]:
    folder = tempfile.mkdtemp(prefix="backstay-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    urls = {name: f"sqlite:///{folder}/{name}.db" for name in ("journal", "stock", "payments")}
    participants = [_participant(name, urls[name]) for name in ("stock", "payments")]
    with _manager(urls["journal"], participants) as manager:
        yield Case(
            name="SQLite: TCC, two branches in process",
            floor=_by_hand_on_sqlite(folder),
            ours=_ours(manager, participants),
            target=None,
        )
    server = os.environ.get("BACKSTAY_TEST_POSTGRES_URL")
    if server is not None:
        participants = [_participant(name, server) for name in ("stock", "payments")]
        with _manager(server, participants) as manager:
            yield Case(
                name="PostgreSQL: TCC, two branches in process",
                floor=_by_hand_on_postgres(server),
                ours=_ours(manager, participants),
                target=1.3,
            )


def _manager(url: str, participants: list[Participant]) -> TransactionManager:
    return TransactionManager.connect(url, actions=participants, settings=Settings(recovery=False))


def _participant(name: str, url: str) -> Participant:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":  # as the other side
        event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA journal_mode=WAL"))
    with engine.begin() as connection:
        connection.execute(text(TABLE.format(name)))
        connection.execute(text(f"DELETE FROM bench_{name}"))  # our own two names
        connection.execute(text(f"INSERT INTO bench_{name} VALUES (1, {UNITS}, 0)"))  # the same

    def serve(statement: str) -> Callable[..., None]:
        update = text(f"UPDATE bench_{name} SET {statement} WHERE id = 1")  # our own statements

        def function(connection: Connection, branch: Branch, *, n: int) -> None:
            connection.execute(update, {"n": n})

        return function

    return Participant(
        name,
        engine,
        try_=serve("free = free - :n, held = held + :n"),
        confirm=serve("held = held - :n"),
        cancel=serve("free = free + :n, held = held - :n"),
    )


def _ours(manager: TransactionManager, participants: list[Participant]) -> Callable[[], object]:
    calls = [(participant, {"n": 1}) for participant in participants]

    def run() -> None:
        with manager.tcc() as tx:
            tx.parallel(*calls)

    return run


def _by_hand_on_sqlite(folder: str) -> Callable[[], object]:
    def connect(name: str) -> sqlite3.Connection:
        made = sqlite3.connect(f"{folder}/hand-{name}.db", isolation_level=None, check_same_thread=False)
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=FULL")
        made.execute(TABLE.format("hand"))
        made.execute(f"INSERT INTO bench_hand VALUES (1, {UNITS}, 0)")  # a constant
        made.execute("CREATE TABLE seen (id TEXT, phase TEXT, PRIMARY KEY (id, phase))")
        return made

    branches, log = [connect("stock"), connect("payments")], connect("log")
    numbers = itertools.count()

    def local(connection: sqlite3.Connection, number: str, phase: str, update: str | None) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO seen VALUES (?, ?)", (number, phase))
        if update is not None:
            connection.execute(f"UPDATE bench_hand SET {update} WHERE id = 1")  # our own statements
        connection.execute("COMMIT")

    def run() -> None:
        number = str(next(numbers))
        for branch in branches:
            local(branch, number, "try", "free = free - 1, held = held + 1")
        local(log, number, "confirm", None)
        for branch in branches:
            local(branch, number, "confirm", "held = held - 1")

    return run


def _by_hand_on_postgres(url: str) -> Callable[[], object]:
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    branches = [psycopg.connect(address) for _ in range(2)]
    log = psycopg.connect(address)
    with log:
        log.execute("CREATE TABLE IF NOT EXISTS bench_seen (id TEXT, phase TEXT, PRIMARY KEY (id, phase))")
        for at in range(2):
            log.execute(TABLE.format(f"hand_{at}"))
            log.execute(f"DELETE FROM bench_hand_{at}")
            log.execute(f"INSERT INTO bench_hand_{at} VALUES (1, {UNITS}, 0)")  # the same
    log = psycopg.connect(address)
    numbers, prefix = itertools.count(), os.urandom(8).hex()
    pool = ThreadPoolExecutor(max_workers=1)

    def local(at: int, number: str, phase: str, update: str) -> None:
        connection = branches[at]
        connection.execute("INSERT INTO bench_seen VALUES (%s, %s)", (f"{number}-{at}", phase))
        connection.execute(f"UPDATE bench_hand_{at} SET {update} WHERE id = 1")  # our own
        connection.commit()

    def both(number: str, phase: str, update: str) -> None:
        other = pool.submit(local, 1, number, phase, update)
        local(0, number, phase, update)
        other.result()

    def run() -> None:
        number = f"{prefix}-{next(numbers)}"
        both(number, "try", "free = free - 1, held = held + 1")
        log.execute("INSERT INTO bench_seen VALUES (%s, 'decision')", (number,))
        log.commit()
        both(number, "confirm", "held = held - 1")

    return run
