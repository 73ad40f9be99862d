"""B-1: the crash matrix of section 3.2.6 for coordinators, by SIGKILL, and by SIGSTOP with a recovery meanwhile.

Journal writes: `open` is T1 with the first T2, `enlist` the second T2 (with the first T4), `decide` T5, `settle`
T7 with T8. Requests: `try` is T3, `confirm` and `cancel` are T6, one for each of the two branches.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from backstay.txn import State
from faults.txn.accounts import CANCELLED_INSIDE, CONFIRMED_INSIDE, NAMES, START, Bank, Point

WHEN = ("before", "middle", "after")
BEFORE_DECISION = [
    Point(step=step, nth=nth, when=when)
    for step, nth in (("open", 1), ("try", 1), ("enlist", 1), ("try", 2))
    for when in WHEN
]
DECISION = [Point(step="decide", when=when) for when in WHEN]
PHASE_TWO = [
    Point(step=step, nth=nth, when=when)
    for step, nth in (("phase two", 1), ("phase two", 2), ("settle", 1))
    for when in WHEN
]


def _named(point: Point, fail: bool) -> Point:
    step = ("cancel" if fail else "confirm") if point.step == "phase two" else point.step
    return Point(step=step, nth=point.nth, when=point.when)


class Matrix:
    """One bank a test; subclasses say where its databases are."""

    bank: Bank

    def killed(self, point: Point, fail: bool) -> None:
        named = _named(point, fail)
        died = self.bank.in_child(lambda: self.bank.transfer(named, signal.SIGKILL, fail=fail))
        assert died == -signal.SIGKILL, "the point was never reached"
        self.bank.recover()
        decided = point in PHASE_TWO or (point in DECISION and point.when != "before")
        self._at_rest(confirmed=decided and not fail, logged=str(point) != "open-1-before")

    def stalled(self, point: Point) -> None:
        named = _named(point, False)
        stopped = self.bank.in_child(lambda: self.bank.transfer(named, signal.SIGSTOP, fail=False))
        assert stopped == -signal.SIGSTOP, "the point was never reached"
        self.bank.recover()
        told = self.bank.resume()
        self.bank.recover()
        decided = point in PHASE_TWO or (point in DECISION and point.when != "before")
        # Nothing was logged yet before T1: the coordinator goes on, but its lease is gone, so it cannot confirm.
        self._at_rest(confirmed=decided, logged=True)
        assert told == (CONFIRMED_INSIDE if decided else CANCELLED_INSIDE)

    def _at_rest(self, *, confirmed: bool, logged: bool) -> None:
        if logged:
            assert self.bank.states() == [State.CONFIRMED if confirmed else State.CANCELLED]
        else:
            assert self.bank.states() == []
        expected = (START - 7, 0, 7) if confirmed else (START, 0, 0)
        assert self.bank.rows() == dict.fromkeys(NAMES, expected)


ALL = [*BEFORE_DECISION, *DECISION, *PHASE_TWO]
# For the journal's writes and for requests alike, only the process that dies can tell the middle from after.
SHORT = [point for point in ALL if point.when != "after"]


def killed_at(points: list[Point]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("point", "fail"),
        [
            *(pytest.param(point, False, id=f"confirm-{point}") for point in points),
            *(pytest.param(point, True, id=f"cancel-{point}") for point in points if point not in BEFORE_DECISION),
        ],
    )


def stalled_at(points: list[Point]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("point", [point for point in points if point.when == "middle"], ids=str)


class TestSqlite(Matrix):
    @killed_at(ALL)
    def test_B1_killed(self, point: Point, fail: bool) -> None:
        self.killed(point, fail)

    @stalled_at(ALL)
    def test_I3_stalled_while_a_recovery_runs(self, point: Point) -> None:
        self.stalled(point)

    @pytest.fixture(autouse=True)
    def databases(self, tmp_path: Path) -> None:
        self.bank = Bank(f"sqlite:///{tmp_path}/journal.db", f"sqlite:///{tmp_path}/business.db")
        self.bank.create()


class TestPostgres(Matrix):
    @killed_at(SHORT)
    def test_B1_killed(self, point: Point, fail: bool) -> None:
        self.killed(point, fail)

    @stalled_at(SHORT)
    def test_I3_stalled_while_a_recovery_runs(self, point: Point) -> None:
        self.stalled(point)

    @pytest.fixture(autouse=True)
    def databases(self, postgres_url: str) -> None:
        self.bank = Bank(postgres_url, postgres_url)
        self.bank.create()
