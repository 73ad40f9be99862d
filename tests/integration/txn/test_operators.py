"""`backstay txn`, the background recoverer, forks and several processes on one journal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from backstay import telemetry
from backstay.blocking import drive
from backstay.errors import Misuse
from backstay.txn import AlreadyRun, BranchState, Outcome, Settings, State, TransactionManager
from backstay.txn.tcc.states import Event
from integration.txn.shop import Stock

LONG = 20.0
QUIET = Settings(recovery=False, patience=0.0)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    made = Stock(f"sqlite:///{tmp_path}/stock.db")
    yield made
    made.engine.dispose()


def leave_behind(journal: str, stock: Stock, event: Event | None, key: str) -> str:
    """Do what a coordinator does that dies after its try, or after its decision; return the gtrid."""
    with TransactionManager.connect(journal, actions=[stock.participant], settings=QUIET) as dead:
        coordinator = dead.company.cast.coordinator
        work = drive(coordinator.begin(key, None))
        drive(coordinator.call(work, [dead.company.call(stock.participant, {"sku": "a", "quantity": 2})]))
        if event is not None:
            drive(dead.company.journal.decide(work.lease, work.gtrid, event))
        # Closing gives the lease back, so nobody has to wait for its end.
    return work.gtrid


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


# --- the command line -----------------------------------------------------------------------------


def backstay(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    code = "from backstay.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "txn", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )


APP = """
from sqlalchemy import create_engine
from backstay.txn import Participant, TransactionManager

def nothing(connection, branch, *, sku, quantity): ...

def free(connection, branch, *, sku, quantity):
    from sqlalchemy import text
    connection.execute(text("UPDATE stock SET free = free + :n, held = held - :n"), {"n": quantity})

def spend(connection, branch, *, sku, quantity):
    from sqlalchemy import text
    connection.execute(text("UPDATE stock SET held = held - :n"), {"n": quantity})

stock = Participant("stock", create_engine("sqlite:///stock.db"), try_=nothing, confirm=spend, cancel=free)
manager = TransactionManager.connect("sqlite:///journal.db", actions=[stock])
number = 7
"""


def test_recover_finishes_what_dead_coordinators_left(journal: str, stock: Stock, tmp_path: Path) -> None:
    gtrids = [
        leave_behind(journal, stock, event, str(event)) for event in (None, Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL)
    ]
    (tmp_path / "app.py").write_text(APP)
    listed = backstay("list", "--journal", journal, cwd=tmp_path)
    assert listed.returncode == 0
    assert all(gtrid in listed.stdout for gtrid in gtrids)
    without = backstay("recover", "--journal", journal, "--wait", "0", cwd=tmp_path)
    assert (without.returncode, "3 unfinished" in without.stdout) == (1, True)  # it has no actions
    assert stock.rows() == (4, 6)
    done = backstay("recover", "--app", "app:manager", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 finished, 0 unfinished" in done.stdout
    assert stock.rows() == (8, 0)
    assert gtrids[0] not in backstay("list", "--journal", journal, cwd=tmp_path).stdout
    shown = backstay("show", gtrids[1], cwd=tmp_path, environment={"BACKSTAY_JOURNAL": journal})
    assert "confirmed" in shown.stdout
    again = backstay("recover", "--app", "app:manager", cwd=tmp_path)
    assert (again.returncode, "0 finished, 0 unfinished" in again.stdout) == (0, True)


def test_recover_now_takes_over_from_a_lease_that_still_runs(journal: str, stock: Stock, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with TransactionManager.connect(journal, actions=[stock.participant], settings=QUIET) as living:
        work = drive(living.company.cast.coordinator.begin("k", None))
        call = living.company.call(stock.participant, {"sku": "a", "quantity": 2})
        drive(living.company.cast.coordinator.call(work, [call]))
        waited = backstay("recover", "--app", "app:manager", "--wait", "0.3", cwd=tmp_path)
        assert (waited.returncode, stock.rows()) == (1, (8, 2))
        forced = backstay("recover", "--app", "app:manager", "--now", cwd=tmp_path)
        assert (forced.returncode, stock.rows()) == (0, (10, 0))
        assert living.outcome(work.gtrid) is Outcome.CANCELLED


def test_retry_brings_dead_branches_back(journal: str, stock: Stock, tmp_path: Path) -> None:
    gtrid = leave_behind(journal, stock, Event.DECIDE_CANCEL, "k")
    with create_engine(journal).begin() as connection:
        connection.execute(text("UPDATE backstay_txn_branch SET state = 'dead', attempts = 100"))
    (tmp_path / "app.py").write_text(APP)
    assert backstay("recover", "--app", "app:manager", cwd=tmp_path).returncode == 1
    assert backstay("retry", "tcc-unknown", "--journal", journal, cwd=tmp_path).returncode == 1
    retried = backstay("retry", gtrid, "--journal", journal, cwd=tmp_path)
    assert (retried.returncode, "1 transactions are due now" in retried.stdout) == (0, True)
    assert backstay("recover", "--app", "app:manager", cwd=tmp_path).returncode == 0
    assert stock.rows() == (10, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "either --journal URL or --app"),
        (["list", "--journal", "sqlite:///x.db", "--app", "a:b"], "either --journal URL or --app"),
        (["list", "--app", "nowhere"], "module:attribute"),
        (["list", "--app", "nowhere:manager"], "no module 'nowhere'"),
        (["list", "--app", "app:other"], "has no 'other'"),
        (["list", "--app", "app:number"], "no transaction manager"),
        (["list", "--journal", "postgresql://u:hunter2@127.0.0.1:1/x"], "did not answer"),
        (["show", "tcc-1", "--journal", "sqlite:///x.db"], "no transaction 'tcc-1'"),
        (["retry", "--journal", "sqlite:///x.db"], "--all"),
    ],
)
def test_misuse_is_one_clear_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    answer = backstay(*arguments, cwd=tmp_path)
    assert answer.returncode in (2, 3)
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "hunter2" not in answer.stderr


# --- background, forks, processes ------------------------------------------------------------------


def working() -> set[str]:
    """Return the names of this package's threads that run."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("backstay-txn")}


def test_background_recovery_starts_at_first_use_and_takes_over_when_a_lease_ran_out(
    journal: str, stock: Stock
) -> None:
    settings = Settings(recovery=False, patience=0.0, lease=0.4)
    dead = TransactionManager.connect(journal, actions=[stock.participant], settings=settings)
    work = drive(dead.company.cast.coordinator.begin("k", None))
    call = dead.company.call(stock.participant, {"sku": "a", "quantity": 2})
    drive(dead.company.cast.coordinator.call(work, [call]))
    drive(dead.company.cast.upkeep.stop(2.0))  # as when it is dead: nobody renews the lease any more
    quick = Settings(recover_every=0.1)
    with TransactionManager.connect(journal, actions=[stock.participant], settings=quick) as living:
        assert working() == set()
        living.start()
        assert working() == {"backstay-txn-lease", "backstay-txn-recovery"}
        assert working() <= {one.name for one in telemetry.background() if one.alive}
        until(lambda: stock.rows() == (10, 0))
        assert living.outcome(work.gtrid) is Outcome.CANCELLED
    assert working() == set()
    dead.close()


def test_a_lease_is_renewed_while_its_process_lives(journal: str, stock: Stock) -> None:
    settings = Settings(lease=0.5, recover_every=0.1, patience=0.0)
    with (
        TransactionManager.connect(journal, actions=[stock.participant], settings=settings) as one,
        TransactionManager.connect(journal, settings=settings) as two,
    ):
        two.start()
        with one.tcc() as tx:
            tx.call(stock.participant, sku="a", quantity=2)
            time.sleep(1.5)  # three times the lease; waiting is what is tested
        assert tx.state in (State.CONFIRMING, State.CONFIRMED)
        assert one.outcome(tx.gtrid) is Outcome.CONFIRMED


def test_a_fork_is_another_coordinator(journal: str, stock: Stock) -> None:
    with TransactionManager.connect(journal, actions=[stock.participant], settings=QUIET) as manager:
        with manager.tcc() as tx:
            tx.call(stock.participant, sku="a", quantity=1)
            owner = manager.company.cast.seat.owner
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    stock.engine.dispose(close=False)
                    with manager.tcc(key="child") as inner:
                        inner.call(stock.participant, sku="a", quantity=1)
                    code = 0 if manager.company.cast.seat.owner != owner else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert manager.outcome(tx.gtrid) is Outcome.CONFIRMED
        child = manager.find("child")
        assert child is not None
        assert child.lease.owner != owner
        until(lambda: manager.recover() == 0)
    assert stock.rows()[0] == 8


WORKER = """
import sys
from backstay.txn import AlreadyRun, Settings, Tcc, TransactionManager

def nothing(branch): ...

action = Tcc("nothing", try_=nothing, confirm=nothing, cancel=nothing)
ran = 0
with TransactionManager.connect(sys.argv[1], actions=[action], settings=Settings(recover_every=0.2)) as manager:
    for number in range(40):
        try:
            with manager.tcc(key=f"k{number}") as tx:
                tx.call(action)
            ran += 1
        except AlreadyRun:
            pass
print(ran)
"""


def test_several_processes_share_a_sqlite_journal_and_each_key_runs_once(journal: str, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, journal], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(3)
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(counts) == 40
    with TransactionManager.connect(journal, settings=QUIET) as manager:
        manager.start()
        records = drive(manager.company.journal.recent(100))
    assert [record.state for record in records] == [State.CONFIRMED] * 40


# --- clean-up --------------------------------------------------------------------------------------


def test_the_barrier_is_cleaned_only_of_what_ended_long_ago(journal: str, stock: Stock) -> None:
    day = 24 * 3600.0

    def rows() -> int:
        with stock.engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM backstay_barrier")) or 0)

    settings = Settings(recovery=False)
    with TransactionManager.connect(journal, actions=[stock.participant], settings=settings) as manager:
        for number in range(3):
            with manager.tcc(key=str(number)) as tx:
                tx.call(stock.participant, sku="a", quantity=1)
        unfinished = leave_behind(journal, stock, Event.DECIDE_CONFIRM, "left")
        with pytest.raises(Misuse, match="late try"):
            manager.clean_barrier(stock.engine, safety=3600.0)
        assert (rows(), manager.clean_barrier(stock.engine)) == (7, 0)
        with create_engine(journal).begin() as connection:  # three days later
            connection.execute(text("UPDATE backstay_txn_transaction SET ended_ms = ended_ms - 3 * 86400000"))
        assert manager.clean_barrier(stock.engine, safety=2 * day) == 6
        assert rows() == 1
        assert manager.purge(age=2 * day) == 3
        assert manager.outcome(unfinished) is Outcome.CONFIRMED
        with pytest.raises(AlreadyRun), manager.tcc(key="left"):
            pytest.fail("the block must not run")
        left = drive(manager.company.journal.read(unfinished))
        assert left is not None
        assert left.branches[0].state is BranchState.LOGGED


def test_actions_can_be_registered_later(journal: str, stock: Stock) -> None:
    with TransactionManager.connect(journal, settings=QUIET) as manager:
        manager.register(stock.participant)
        with manager.tcc() as tx:
            result: Any = tx.call(stock.participant, sku="a", quantity=1)
        assert result == {"hold": tx.gtrid}
