"""Rows of locks: what is written and when, fences, formats, bounds, bad input; on SQLite with the test's own clock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from backstay.blocking import drive
from backstay.errors import Misuse, Unavailable
from backstay.locks import AsyncLocks, Locks
from backstay.locks.backend import ALIVE, Busy, Freed, Kept, Renewal
from backstay.locks.backends.sql import SqlBackend, backend as backends, packing
from backstay.locks.backends.sql.letters import LONGEST, SHORTEST, Letters
from backstay.locks.backends.sql.schema import VERSION, key_of
from backstay.locks.claims import MUTEX, READ, WRITE, Resource, permits
from backstay.locks.table import Table
from unit.locks.sqlite_rows import Clock, backend

NAME = Resource("order:42")
SOON = 1.0


class Bench:
    """One backend, its clock, and the file as another program sees it."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.backend: SqlBackend = backend(path, self.clock)
        self.file = sqlite3.connect(path / "locks.db")

    def take(self, token: str, claim: Any = MUTEX, *, ttl: float = 10.0, queue: bool = False) -> int | Busy:
        resource = NAME if claim is MUTEX else Resource("r", "read-write lock")
        return drive(self.backend.take(resource, token, claim, ttl, "asks" if queue else "", SOON))

    def release(self, token: str, fence: int) -> Freed:
        return drive(self.backend.release(NAME, token, fence, SOON))

    def row(self, columns: str = "version", resource: Resource = NAME) -> Any:
        query = f"SELECT {columns} FROM backstay_locks WHERE id = ?"
        found = self.file.execute(query, (key_of("unit", resource),)).fetchone()
        return found[0] if found is not None and len(found) == 1 else found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    drive(made.backend.close())
    made.file.close()


def test_E6_the_databases_clock_decides_and_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = bench.take("a", ttl=10.0)
    assert isinstance(fence, int)
    for jump in (3600.0, -3600.0):  # T1: the client's wall clock
        monkeypatch.setattr("time.time", lambda jump=jump: bench.clock.now + jump)
        busy = bench.take("b")
        assert isinstance(busy, Busy)
        assert busy.left == pytest.approx(10.0, abs=0.001)
    bench.clock.now += 9.99
    assert isinstance(bench.take("b"), Busy)
    bench.clock.now += 0.011
    later = bench.take("b")
    assert isinstance(later, int)
    assert later > fence


def test_F1_F2_F5_a_fence_is_above_the_last_one_and_above_the_clock(bench: Bench) -> None:
    first = bench.take("a")
    assert first == int(bench.clock.now * 1e6)
    assert bench.release("a", first) is Freed.FREED
    bench.clock.now -= 3600.0  # the server's clock is set back
    second = bench.take("b")
    assert second == first + 1
    assert bench.row("fence") == second


def test_F2_fences_go_on_where_the_row_was_deleted(bench: Bench) -> None:
    first = bench.take("a")
    assert isinstance(first, int)
    with bench.file:
        bench.file.execute("DELETE FROM backstay_locks")
    bench.clock.now += 0.001
    second = bench.take("b")
    assert isinstance(second, int)
    assert second > first


def test_R5_the_same_token_gets_the_same_fence_and_a_fresh_ttl(bench: Bench) -> None:
    fence = bench.take("a", ttl=10.0)
    bench.clock.now += 8.0
    assert bench.take("a", ttl=10.0) == fence
    bench.clock.now += 8.0
    assert isinstance(bench.take("b"), Busy)


def test_R3_a_release_with_another_token_or_fence_frees_nothing(bench: Bench) -> None:
    fence = bench.take("a")
    assert isinstance(fence, int)
    assert bench.release("b", fence) is Freed.NOT_OWNER
    assert bench.release("a", fence - 1) is Freed.NOT_OWNER
    assert isinstance(bench.take("b"), Busy)
    assert bench.release("a", fence) is Freed.FREED
    assert bench.release("a", fence) is Freed.NOT_OWNER


def test_a_look_from_the_queue_writes_only_now_and_then(bench: Bench) -> None:
    bench.take("a", ttl=60.0)
    bench.take("b", queue=True)
    version = bench.row()
    for _ in range(20):
        bench.clock.now += ALIVE / 2 / 20 - 0.001
        assert isinstance(bench.take("b", queue=True), Busy)
    assert bench.row() == version, "twenty looks wrote nothing"
    bench.clock.now += 0.1
    bench.take("b", queue=True)
    assert bench.row() == version + 1, "and the next says that it is still there"
    assert isinstance(bench.take("c"), Busy)
    assert bench.row() == version + 1, "one that does not queue never writes"


def test_Q2_a_waiter_that_is_not_heard_of_is_passed_over_after_its_bound(bench: Bench) -> None:
    fence = bench.take("a", ttl=60.0)
    assert isinstance(fence, int)
    bench.take("dead", queue=True)
    bench.take("b", queue=True)
    assert bench.release("a", fence) is Freed.FREED
    assert isinstance(bench.take("b", queue=True), Busy), "it is kept for the first of them"
    bench.clock.now += ALIVE * 0.9
    assert isinstance(bench.take("b", queue=True), Busy)
    bench.clock.now += ALIVE * 0.2
    assert isinstance(bench.take("b", queue=True), int)


def test_a_row_that_changed_in_between_is_read_again(bench: Bench, tmp_path: Path) -> None:
    """Two who read the same row: the write of the second finds another version and changes nothing."""
    other = backend(tmp_path, bench.clock)
    statements = bench.backend._exchanges._database.statements  # type: ignore[attr-defined]
    write = statements.change_lock
    stolen: list[Any] = []
    drive(bench.backend.withdraw(NAME, "nobody", True, SOON))  # the row is there

    class Interloper:
        """Takes the lock between the read and the write of the first."""

        text = write.text

        def bind(self, **values: Any) -> Any:
            if not stolen:
                stolen.append(drive(other.take(NAME, "thief", MUTEX, 10.0, "", SOON)))
            return write.bind(**values)

    statements.change_lock = Interloper()
    answer = bench.take("a")
    assert isinstance(stolen[0], int)
    assert isinstance(answer, Busy), "granted twice"
    assert answer.owner == "thief"
    drive(other.close())


def test_C9_a_withdrawn_token_is_refused_when_its_request_comes_late(bench: Bench) -> None:
    drive(bench.backend.withdraw(NAME, "late", True, SOON))
    assert isinstance(bench.take("late"), Busy)
    assert isinstance(bench.take("other"), int)
    before = bench.row()
    drive(bench.backend.withdraw(NAME, "unknown", False, SOON))
    assert bench.row() == before


def test_a_waiter_of_the_old_size_is_granted_after_a_resize(bench: Bench) -> None:
    pool = Resource("gpu", "semaphore")
    take = bench.backend.take
    assert isinstance(drive(take(pool, "a", permits(1, 1), 10.0, "", SOON)), int)
    assert isinstance(drive(take(pool, "b", permits(1, 1), 10.0, "asks", SOON)), Busy)
    assert drive(bench.backend.resize(pool, 2, False, SOON)) == 1
    assert isinstance(drive(take(pool, "b", permits(1, 1), 10.0, "asks", SOON)), int)


def test_renewals_of_many_and_of_none(bench: Bench) -> None:
    fences = {}
    for name in ("a", "b", "c"):
        fences[name] = drive(bench.backend.take(Resource(name), f"t-{name}", MUTEX, 10.0, "", SOON))
    bench.clock.now += 9.0
    leases = [Renewal(Resource(name), f"t-{name}", int(str(fence)), 10.0) for name, fence in fences.items()]
    lost = Renewal(Resource("never"), "t", 1, 10.0)
    answers = drive(bench.backend.renew([*leases, lost], SOON))
    assert answers == [Kept.RENEWED] * 3 + [Kept.NOT_OWNER]
    bench.clock.now += 9.0
    assert drive(bench.backend.renew(leases, SOON)) == [Kept.RENEWED] * 3


def test_what_an_operator_sees(bench: Bench) -> None:
    token = "web-3-4711-" + "0" * 32 + "-1"
    bench.take(token, ttl=10.0)
    bench.take("b", queue=True)
    assert bench.row("namespace, kind, name, owner, expires_at") == (
        "unit", "lock", "order:42", "web-3-4711", "1970-01-12T13:46:50.000+00:00",
    )  # fmt: skip
    survey = drive(bench.backend.inspect(NAME, SOON))
    assert [(each.token, each.left) for each in survey.holders] == [(token, pytest.approx(10.0, abs=0.01))]
    assert [each.token for each in survey.waiters] == ["b"]
    assert drive(bench.backend.resources(10, SOON)) == [NAME]
    bench.clock.now += 11.0
    assert drive(bench.backend.resources(10, SOON)) == []


@pytest.mark.parametrize("name", ["a\0b", "ü" * 512, "x ", "x", "\U0001f512", "'; DROP TABLE backstay_locks; --", "%s"])
def test_any_name_is_a_lock_of_its_own(bench: Bench, name: str) -> None:
    resource = Resource(name)
    assert isinstance(drive(bench.backend.take(resource, "a", MUTEX, 10.0, "", SOON)), int)
    assert drive(bench.backend.resources(10, SOON)) == [resource]
    for other in ("x" if name == "x " else "x ", "a b"):
        assert isinstance(drive(bench.backend.take(Resource(other), "b", MUTEX, 10.0, "", SOON)), int)


def test_the_queue_is_bounded_and_those_beyond_it_have_no_place(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "WAITERS", 2)
    bench.take("a")
    answers = [bench.take(token, queue=True) for token in ("b", "c", "d")]
    assert [answer.waiters for answer in answers if isinstance(answer, Busy)] == [1, 2, 2]


def test_a_row_is_bounded_and_the_claim_that_would_burst_it_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backstay.locks.backends.sql.rows.LIMIT", 250)
    assert isinstance(bench.take("r1", READ), int)
    with pytest.raises(Unavailable, match="too many"):
        for number in range(2, 10):
            bench.take(f"r{number}", READ)
    assert isinstance(bench.take("w", WRITE), Busy)


def test_a_packed_table_reads_the_same() -> None:
    resource, fences = Resource("r", "read-write lock"), iter(range(1, 100))
    table = Table(lambda: next(fences), None)
    for token in ("a", "b"):
        table.take(resource, token, READ, 10.0, "", 5.0)
    table.take(resource, "w", WRITE, 3.5, "asks", 6.0)
    table.withdraw("gone", True, 6.5)
    packed = packing.pack(resource, table)
    again = packing.unpack(packed.state, lambda: 0)
    assert (again.size, again.holders, again.queue, again.gone) == (table.size, table.holders, table.queue, table.gone)
    assert packing.resource_of(packed.state) == resource
    assert packed.state.isascii()


def test_a_newer_format_is_refused(bench: Bench) -> None:
    bench.take("a")
    state = json.loads(bench.row("state")) | {"v": 2}
    with bench.file:
        bench.file.execute("UPDATE backstay_locks SET state = ?", (json.dumps(state),))
    with pytest.raises(Misuse, match="format 2, this Backstay knows 1"):
        bench.take("b")


def test_newer_tables_are_refused_and_missing_ones_made_again(tmp_path: Path, bench: Bench) -> None:
    bench.take("a")
    with bench.file:
        bench.file.execute("DROP TABLE backstay_locks")
    assert isinstance(bench.take("b"), int), "dropped under our feet, and made again"
    with bench.file:
        bench.file.execute("UPDATE backstay_locks_schema SET version = ?", (VERSION + 1,))
    with Locks.connect(f"sqlite:///{tmp_path}/locks.db") as locks:
        with pytest.raises(Misuse, match=f"version {VERSION + 1}, this Backstay knows {VERSION}"):
            locks.mutex("x").acquire()


def test_a_file_that_is_no_database_or_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, and long enough to have a header that is none" * 20)
    with Locks.connect(f"sqlite:///{tmp_path}/text.db") as locks, pytest.raises((Misuse, Unavailable)):
        locks.mutex("x", wait=0.0).acquire()
    with Locks.connect(f"sqlite:///{tmp_path}/missing/locks.db", answer_within=0.2) as locks:
        with pytest.raises(Unavailable, match="unable to open"):
            locks.mutex("x", wait=0.0).acquire()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "SQLite in memory"),
        ("sqlite:///:memory:", "SQLite in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "SQLite in memory"),
        ("oracle://user@host/db", "no lock backend for 'oracle'"),
        ("advisory+mysql+pymysql://root@host/db", "no lock backend for 'advisory"),
    ],
)
def test_bad_urls_are_refused_when_they_are_read(url: str, told: str) -> None:
    for connect in (Locks.connect, AsyncLocks.connect):
        with pytest.raises(Misuse, match=told):
            connect(url)


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    locks = Locks.connect("postgresql+psycopg://me:s3cret@127.0.0.1:1/shop", answer_within=0.3)
    assert "s3cret" not in repr(locks)
    with pytest.raises(Unavailable) as refused:
        locks.mutex("x", wait=0.0).acquire()
    assert "s3cret" not in str(refused.value)
    locks.close()


def test_engines_of_the_application_are_taken(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db", pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), Locks.connect(engine) as locks:  # its only connection is in use
        with locks.mutex("x", wait=0.0) as lease:
            assert lease.is_valid()
    loose = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    with Locks.connect(loose) as locks, locks.mutex("x", wait=0.0) as later:
        assert later.fence > lease.fence
    engine.dispose()


class Pauses:
    """A runtime of which only the pauses are wanted."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.flag = False

    def uniform(self, low: float, high: float) -> float:
        return high

    def signal(self) -> Pauses:
        return self

    def clear(self) -> None:
        self.flag = False

    def set(self) -> None:
        self.flag = True

    async def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.flag


def test_W6_pauses_grow_and_those_at_the_back_look_seldom() -> None:
    pauses = Pauses()
    letters = Letters(pauses)  # type: ignore[arg-type]  # a runtime of which only the pauses are wanted
    first, last = letters.write("first"), letters.write("last")
    letters.stands("first", NAME, 0)
    letters.stands("last", NAME, 499)
    for _ in range(20):
        drive(first.wait(60.0))
    assert pauses.waited[0] == SHORTEST
    assert pauses.waited[-1] == LONGEST
    pauses.waited.clear()
    for _ in range(20):
        drive(last.wait(60.0))
    assert pauses.waited[-1] > 10.0
    pauses.waited.clear()
    letters.stands("last", NAME, 0)  # it has become the first
    drive(last.wait(60.0))
    assert pauses.waited == [SHORTEST]
    drive(first.wait(0.001))
    assert pauses.waited[-1] == 0.001, "and never longer than asked"


def test_a_release_wakes_the_foremost_of_this_process() -> None:
    pauses = {"a": Pauses(), "b": Pauses(), "elsewhere": Pauses()}
    letters = Letters(Pauses())  # type: ignore[arg-type]  # as above
    for place, name in enumerate(pauses):
        letters.write(name)._signal = pauses[name]  # type: ignore[assignment]
        letters.stands(name, NAME if name != "elsewhere" else Resource("other"), 1 - place if place < 2 else 0)
    letters.wake(NAME)
    assert [name for name, pause in pauses.items() if pause.flag] == ["b"]


def test_a_reader_that_is_let_in_wakes_the_next_of_this_process(bench: Bench) -> None:
    resource, pauses = Resource("r", "read-write lock"), Pauses()
    fence = bench.take("w", WRITE)
    assert isinstance(fence, int)
    for token in ("a", "b"):
        letter = bench.backend.letter(token)
        assert isinstance(bench.take(token, READ, queue=True), Busy)
        letter._signal = pauses if token == "b" else None  # type: ignore[assignment]  # only its flag is wanted
    assert drive(bench.backend.release(resource, "w", fence, SOON)) is Freed.FREED
    assert not pauses.flag, "the first is woken by the release"
    assert isinstance(bench.take("a", READ, queue=True), int)
    assert pauses.flag, "and the second by the first"
