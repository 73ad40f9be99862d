"""The plane on an injected clock: order, lost and doubled pushes, refusals, pauses (SW-1 to SW-6, SW-9, SW-10)."""

from __future__ import annotations

import gc
import logging
import random
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.backoff import Backoff
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.sources.memory import MemorySource
from backstay.testing import ManualClock, measured
from unit.resilience.delivery.scripted import Keeping, Pushing, Scripted, sealed

TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Stepped:
    """A plane that looks when the test says so, as the watcher would."""

    def __init__(self, source: Scripted, *, chance: Any = max, pace: Pace | None = None, **options: Any) -> None:
        self.source, self.clock, self.keeping = source, ManualClock(), Keeping()
        self.plane = Plane(source, clock=self.clock, chance=chance, pace=pace, wall=TODAY.timestamp, **options)
        self.plane.attach(self.keeping)
        self.due = 0.0

    def begin(self) -> Stepped:
        """Begin as `start` does, with the looks left to the test."""
        self.plane.start(watched=False)
        self.plane.begin_listening()
        self.look()
        return self

    def look(self) -> None:
        self.due = self.plane.look()

    def run(self, seconds: float) -> None:
        """Let time pass, with each look at its moment."""
        end = self.clock() + seconds
        while self.clock() + self.due <= end:
            self.clock.advance(max(self.due, 0.001))
            self.look()
        self.clock.advance(max(0.0, end - self.clock()))

    @property
    def version(self) -> int:
        return self.plane.status().version


# --- order -------------------------------------------------------------------------------------------


def test_SW1_only_a_newer_document_is_applied_and_the_rest_is_counted() -> None:
    with measured() as seen:
        stepped = Stepped(Scripted(sealed(5))).begin()
        stepped.source.etag = False
        stepped.plane.refresh()
        stepped.source.present = sealed(4)
        assert not stepped.plane.refresh()
        assert stepped.version == 5
        assert stepped.plane.status().state == "stale"
        assert "version 1.4, and 1.5 is in force" in stepped.plane.status().problem
        stepped.source.present = sealed(900)
        stepped.plane.refresh()
        stepped.source.present = sealed(1, epoch=2)
        assert stepped.plane.refresh()
        stepped.source.present = sealed(901)
        assert not stepped.plane.refresh()
    assert (stepped.plane.status().epoch, stepped.version) == (2, 1)
    assert seen.count("config.applies", source="scripted", result="applied") == 3
    assert seen.count("config.applies", source="scripted", result="outdated") == 2


def test_SW1_another_document_at_the_same_version_is_refused_and_told() -> None:
    stepped = Stepped(Scripted(sealed(5, a=True))).begin()
    stepped.source.present, stepped.source.etag = sealed(5, a=False), False
    assert not stepped.plane.refresh()
    assert stepped.keeping.now == {"a": True}
    assert stepped.plane.status().state == "error"
    assert "publish it anew" in stepped.plane.status().problem


def test_SW2_what_is_published_between_subscribing_and_the_snapshot_is_not_lost() -> None:
    source = Pushing(sealed(1))
    order: list[str] = []

    def publish_late() -> None:
        order.append("snapshot" if source.streams else "snapshot before subscribing")
        source.before = lambda: None
        source.tell(sealed(2), whole=True)  # after the snapshot was taken, before it arrives

    stepped = Stepped(source)
    stepped.plane.start(watched=False)
    source.before = publish_late
    stepped.plane.begin_listening()
    stepped.look()
    assert order == ["snapshot"]
    assert stepped.version == 2


def test_SW3_the_cursor_moves_only_after_all_consumers_applied() -> None:
    stepped = Stepped(Scripted(sealed(1)))
    other = Keeping("levels")
    stepped.plane.attach(other)
    stepped.begin()
    stepped.source.present = sealed(2, spoilt=True)
    for _ in range(3):
        assert not stepped.plane.refresh()
    assert [str(known) for known in stepped.source.asked[-2:]] == ["1.1", "1.1"]  # it is asked for again and again
    assert stepped.plane.status().state == "error"
    assert "version 1.2 of shop/production: 'spoilt' is not understood" in stepped.plane.status().problem
    stepped.source.present = sealed(3)
    assert stepped.plane.refresh()
    assert stepped.plane.status().state == "ready"


def test_SW3_a_told_version_is_asked_for_until_a_replica_that_has_it_answers() -> None:
    """The trap of long polls: news of 7, a replica behind answers "nothing newer than 6", and 7 is never asked for."""
    stepped = Stepped(Pushing(sealed(6))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    source.tell(sealed(7))
    asked = len(source.asked)
    stepped.look()
    assert len(source.asked) == asked + 1
    assert (stepped.version, stepped.plane.status().state) == (6, "stale")
    pauses: list[float] = []
    for _ in range(6):
        pauses.append(stepped.plane.look())
        stepped.clock.advance(pauses[-1])
    assert all(pause > 0 for pause in pauses)
    stepped.run(20)
    assert 3 <= len(source.asked) - asked < 40  # again and again, and not without pauses
    source.present = sealed(7)
    stepped.run(10)
    assert (stepped.version, stepped.plane.status().state) == (7, "ready")


# --- pushes that are lost, late, doubled ------------------------------------------------------------


def test_SW4_without_any_push_a_change_arrives_within_the_pull_interval() -> None:
    for seed in range(20):
        stepped = Stepped(Pushing(sealed(1)), chance=random.Random(seed).uniform).begin()
        stepped.run(random.Random(seed).uniform(0, 100))
        stepped.source.present = sealed(2)  # and nobody tells
        stepped.run(30)
        assert stepped.version == 2


def test_SW4_a_gap_and_a_reconnect_ask_for_the_whole_document() -> None:
    stepped = Stepped(Pushing(sealed(1))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    asked = len(source.asked)
    source.present = sealed(2)
    source.tell(sealed(2), whole=True)
    stepped.look()
    assert (stepped.version, len(source.asked)) == (2, asked)  # the next one: nothing to ask
    source.present = sealed(5)
    source.tell(sealed(4), whole=True)
    stepped.look()
    assert (stepped.version, len(source.asked)) == (5, asked + 1)
    source.present = sealed(6)
    source.streams[-1].alive = False
    stepped.run(3)
    assert stepped.version == 6
    assert len(source.streams) == 2
    assert source.streams[0].closed


def test_SW4_doubled_and_reordered_pushes_change_nothing() -> None:
    stepped = Stepped(Pushing(sealed(1))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    source.present = sealed(4)
    with measured() as seen:
        for version in (3, 4, 2, 4, 3, 2):
            source.tell(sealed(version), whole=True)
        stepped.look()
    assert stepped.version == 4
    assert [dict(section) for section in stepped.keeping.seen] == [{"number": 1}, {"number": 3}, {"number": 4}]
    assert seen.count("config.applies", source="scripted", result="outdated") >= 3


def test_SW4_a_push_that_is_refused_is_asked_for_and_what_is_in_force_stays() -> None:
    stepped = Stepped(Pushing(sealed(1))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    source.present = sealed(2)
    source.tell(sealed(2, spoilt=True), whole=True)  # not what the source has: changed on the way
    stepped.look()
    assert stepped.keeping.now == {"number": 2}
    assert stepped.plane.status().state == "ready"


def test_SW4_a_flood_of_pushes_takes_bounded_memory_and_ends_at_the_newest() -> None:
    stepped = Stepped(Pushing(sealed(1))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    source.present = sealed(5000)
    for version in range(5000, 1, -1):  # the newest is pushed out of the inbox
        source.tell(sealed(version))
    stepped.look()
    assert stepped.version == 5000


# --- states and pauses -------------------------------------------------------------------------------


def test_SW5_pauses_stay_below_the_grace_period() -> None:
    with pytest.raises(Misuse, match="must be below grace"):
        Pace(grace=10, longest_retry=10)
    pace = Pace(grace=12, longest_retry=11)
    backoff = pace.backoff(max)
    assert max(backoff.pause() for _ in range(100)) == 11 < pace.grace


def test_SW5_a_source_that_is_back_is_found_before_the_grace_period_ends() -> None:
    stepped = Stepped(Pushing(sealed(1))).begin()
    source = stepped.source
    assert isinstance(source, Pushing)
    source.failure, source.deaf = Unavailable("down"), True
    source.streams[-1].alive = False
    stepped.run(3)
    assert stepped.plane.status().state == "stale"
    assert not stepped.plane.status().connected
    stepped.run(31)
    assert stepped.plane.status().state == "error"
    assert stepped.keeping.now == {"number": 1}
    source.failure, source.deaf = None, False
    stepped.run(stepped.plane.pace.longest_retry)
    assert stepped.plane.status().state == "ready"
    assert stepped.plane.status().connected


def test_SW6_gauges_of_age_version_and_connection() -> None:
    with measured() as seen:
        stepped = Stepped(Pushing(sealed(7))).begin()
        stepped.clock.advance(3)
        assert seen.value("config.age", source="scripted") == 3
        assert seen.value("config.version", source="scripted") == 7
        assert seen.value("config.connected", source="scripted") == 1
        assert isinstance(stepped.source, Pushing)
        stepped.source.streams[-1].alive = False
        assert seen.value("config.connected", source="scripted") == 0


def test_SW10_clients_that_lose_a_server_together_come_back_spread() -> None:
    first = [Backoff(first=1.0, most=10.0, chance=random.Random(seed).uniform).pause() for seed in range(1000)]
    tenths = [sum(low <= pause * 10 < low + 1 for pause in first) for low in range(10)]
    assert max(tenths) < 160  # evenly would be 100 in each
    assert min(tenths) > 50
    second = Backoff(first=1.0, most=10.0, chance=max)
    assert [second.pause() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    second.reset()
    assert second.pause() == 1


def test_SW10_planes_do_not_look_in_step() -> None:
    moments: set[float] = set()
    for seed in range(50):
        stepped = Stepped(Scripted(sealed(1)), chance=random.Random(seed).uniform).begin()
        assert 24 <= stepped.due <= 30
        moments.add(round(stepped.due, 3))
    assert len(moments) > 45


# --- whole or not at all -----------------------------------------------------------------------------


def test_SW9_one_consumer_that_refuses_keeps_all_as_they_are() -> None:
    stepped = Stepped(Scripted(sealed(1)))
    levels = Keeping("levels")
    stepped.plane.attach(levels)
    stepped.begin()
    stepped.source.present = sealed(2, spoilt=1)
    stepped.plane.refresh()
    assert (stepped.keeping.now, levels.now) == ({"number": 1}, {})
    assert len(levels.seen) == 1


def test_SW9_a_consumer_that_fails_while_it_applies_is_taken_back_with_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stepped = Stepped(Scripted(sealed(1)))
    levels = Keeping("levels")
    stepped.plane.attach(levels)
    stepped.begin()
    levels.broken = True
    stepped.source.present = sealed(2)
    with pytest.raises(RuntimeError, match="fault of a consumer"):
        stepped.plane.refresh()
    assert (stepped.keeping.now, levels.now) == ({"number": 1}, {})
    assert (stepped.version, stepped.plane.status().state) == (1, "error")
    levels.broken = False
    stepped.run(30)
    assert (stepped.version, stepped.plane.status().state) == (2, "ready")


def test_a_consumer_that_comes_later_gets_what_is_in_force_and_may_refuse_it() -> None:
    stepped = Stepped(Scripted(sealed(1, bad=True))).begin()
    late = Keeping("levels")
    stepped.plane.attach(late)
    assert len(late.seen) == 1
    with pytest.raises(Misuse, match="'levels' has a consumer already"):
        stepped.plane.attach(Keeping("levels"))
    plane = Plane(Scripted(sealed(1, bad=True)), clock=ManualClock())
    plane.start(watched=False)
    picky = Keeping(refused="bad")
    plane.attach(picky)
    assert (plane.status().state, picky.now) == ("error", {})
    plane.refresh()
    assert plane.status().state == "error"  # not forgotten: it is in force for nobody who refused it
    assert isinstance(plane.source, Scripted)
    plane.source.present = sealed(2, good=True)
    plane.refresh()
    assert (plane.status().state, picky.now) == ("ready", {"good": True})


def test_a_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    stepped = Stepped(Scripted(sealed(1))).begin()
    stepped.source.failure = Unavailable("no answer from scripted")
    with caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        for _ in range(5):
            stepped.plane.refresh()
    assert len(caplog.records) == 1
    assert "no answer from scripted" in caplog.text


def test_a_document_past_its_not_after_is_stale_and_stays_in_force() -> None:
    made = sealed(1)
    ended = type(made).seal(scope=made.scope, epoch=1, version=2, items=made.items, not_after="2026-11-24T11:59:59Z")
    stepped = Stepped(Scripted(made)).begin()
    stepped.source.present = ended
    stepped.plane.refresh()
    assert (stepped.version, stepped.plane.status().state) == (2, "stale")
    assert "good until" in stepped.plane.status().problem


def test_a_plane_that_nobody_holds_ends_its_subscription() -> None:
    source = Pushing(sealed(1))
    stepped = Stepped(source).begin()
    gone = weakref.ref(stepped.plane)
    del stepped
    gc.collect()
    assert gone() is None
    assert source.streams[-1].closed
    source.tell(sealed(2))  # heard by nobody


def test_SW11_a_child_forgets_the_streams_of_its_parent_and_leaves_them_open() -> None:
    source = Pushing(sealed(1))
    stepped = Stepped(source).begin()
    stepped.plane.renew()  # what the hook of the fork calls
    assert stepped.plane.status().state == "stale"
    assert stepped.keeping.now == {"number": 1}
    stepped.look()
    assert stepped.plane.status().state == "ready"
    assert len(source.streams) == 2
    assert source.streams[0].closed == 0


def test_wrong_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="keep is for sources elsewhere"):
        Plane(MemorySource(), keep=tmp_path / "kept.json")
    for wrong in ({"pull_interval": 0}, {"grace": -1}, {"init_timeout": None}, {"first_retry": True}):
        with pytest.raises(Misuse, match="must be from"):
            Pace(**wrong)


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
def test_SW12_a_step_of_the_wall_clock_changes_neither_state_nor_order_nor_pauses(step: float) -> None:
    wall, clock = ManualClock(TODAY.timestamp()), ManualClock()
    source, shift = Scripted(sealed(5)), [0.0]
    plane = Plane(source, clock=clock, chance=max, wall=lambda: wall() + shift[0])
    plane.attach(Keeping()).start(watched=False)
    plane.begin_listening()
    due = plane.look()
    shift[0] = step
    assert (plane.look(), plane.status().state, plane.status().age) == (due, "ready", 0)
    source.present = sealed(6)
    clock.advance(due)
    plane.look()
    assert (plane.status().version, plane.status().state) == (6, "ready")
