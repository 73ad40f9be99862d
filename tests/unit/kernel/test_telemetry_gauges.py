"""Gauges and background work: callbacks that may fail, and owners that may go."""

from __future__ import annotations

import gc
import logging
import threading

import pytest

from backstay import telemetry
from backstay.telemetry import daemons
from backstay.telemetry.daemons import forget_in_child
from backstay.telemetry.readings import Kind
from backstay.telemetry.registry import Registry


class Pool:
    def __init__(self, used: int) -> None:
        self.used = used

    def usage(self) -> float:
        return self.used

    def alive(self) -> bool:
        return self.used > 0


class Slotted:
    __slots__ = ()

    def usage(self) -> float:
        return 5


def test_a_gauge_reads_its_callback_at_each_snapshot() -> None:
    registry, pool = Registry(), Pool(3)
    registry.gauge(Kind.LEVEL, "bulkhead.usage", "{permit}", pool.usage, {"resource": "a"})
    assert registry.snapshot().value("bulkhead.usage", resource="a") == 3
    pool.used = 4
    assert registry.snapshot().value("bulkhead.usage", resource="a") == 4


def test_a_raising_callback_does_not_stop_the_others_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()

    def broken() -> float:
        raise LookupError("redis://u:hunter2@h is gone")

    registry.gauge(Kind.GAUGE, "breaker.state", "1", broken, {"resource": "bad"})
    registry.gauge(Kind.GAUGE, "breaker.state", "1", lambda: 1, {"resource": "good"})
    with caplog.at_level(logging.WARNING, "backstay.telemetry"):
        for _ in range(3):
            assert [reading.value for reading in registry.snapshot()] == [1]
    assert len(caplog.records) == 1
    assert "backstay.breaker.state" in caplog.text
    assert "LookupError" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_gauge_does_not_keep_its_owner_alive() -> None:
    registry, pool = Registry(), Pool(3)
    registry.gauge(Kind.LEVEL, "bulkhead.usage", "{permit}", pool.usage, {})
    del pool
    gc.collect()
    assert list(registry.snapshot()) == []


def test_an_owner_that_cannot_be_held_weakly_is_held() -> None:
    registry = Registry()
    registry.gauge(Kind.LEVEL, "bulkhead.usage", "{permit}", Slotted().usage, {})
    gc.collect()
    assert registry.snapshot().value("bulkhead.usage") == 5


def test_a_second_gauge_replaces_the_first_and_a_closed_one_is_silent() -> None:
    registry, one, two = Registry(), Pool(1), Pool(2)
    first = registry.gauge(Kind.LEVEL, "bulkhead.usage", "{permit}", one.usage, {})
    second = registry.gauge(Kind.LEVEL, "bulkhead.usage", "{permit}", two.usage, {})
    first.close()
    assert registry.snapshot().value("bulkhead.usage") == 2
    second.close()
    assert list(registry.snapshot()) == []


# -- background work


def names() -> list[str]:
    return [entry.name for entry in telemetry.background()]


def test_background_work_is_listed_while_it_lives_and_shown_dead_when_it_died() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    entry = telemetry.announce("backstay-keeper", thread.is_alive)
    assert telemetry.Background(name="backstay-keeper", alive=True) in telemetry.background()
    stop.set()
    thread.join()
    assert telemetry.Background(name="backstay-keeper", alive=False) in telemetry.background()
    entry.close()
    entry.close()
    assert "backstay-keeper" not in names()


def test_background_work_goes_from_the_list_with_its_owner() -> None:
    pool = Pool(1)
    telemetry.announce("backstay-pool", pool.alive)
    assert "backstay-pool" in names()
    del pool
    gc.collect()
    assert "backstay-pool" not in names()


def test_announcements_of_owners_that_are_gone_do_not_pile_up() -> None:
    before = len(daemons._announced)
    for _ in range(100):
        telemetry.announce("backstay-passing", Pool(1).alive)
    gc.collect()
    assert len(daemons._announced) <= before + 1


def test_a_forked_child_lists_none_of_its_parents_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook itself, without a fork; the integration tests fork for real."""
    monkeypatch.setattr(daemons, "_announced", list(daemons._announced))
    telemetry.announce("backstay-keeper", lambda: True)
    forget_in_child()
    assert telemetry.background() == ()
    telemetry.announce("backstay-child", lambda: True)
    assert names() == ["backstay-child"]


def test_the_list_is_bounded_by_dropping_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "_announced", list[telemetry.Announcement]())
    living = telemetry.announce("backstay-living", lambda: True)
    for _ in range(500):
        telemetry.announce("backstay-dying", lambda: False)
    assert len(telemetry.background()) <= 200
    assert names()[0] == living.name


def test_work_that_cannot_say_that_it_lives_is_shown_dead() -> None:
    def broken() -> bool:
        raise LookupError

    entry = telemetry.announce("backstay-broken", broken)
    assert telemetry.Background(name="backstay-broken", alive=False) in telemetry.background()
    entry.close()
