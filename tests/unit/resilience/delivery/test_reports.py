"""Reports of an instance: what they say, when they are sent, and that nobody minds when they do not arrive (SW-6)."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.envelope import moment
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.reports import Reports
from backstay.testing import ManualClock
from unit.resilience.delivery.scripted import Keeping, Scripted, sealed

ISSUED = moment("2026-11-24T02:00:00Z").timestamp()


class Levels(Keeping):
    def tell(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        return {"search": "warning"}, {"search": {"errors": 0.07}}


class Taking:
    """Takes reports; stands for a service, whose own answers the tests beside it hold."""

    def __init__(self) -> None:
        self.taken: list[Mapping[str, Any]] = []
        self.failure: Exception | None = None

    def report(self, body: Mapping[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self.taken.append(body)


def begun(source: Scripted) -> Plane:
    plane = Plane(source, clock=ManualClock(), wall=lambda: ISSUED + 0.25)
    plane.attach(Levels("levels")).start(watched=False)
    return plane


def test_SW6_a_report_says_what_runs_since_when_and_how_late() -> None:
    plane, taking = begun(Scripted(sealed(7))), Taking()
    reports = Reports(plane, taking, chance=max)
    assert reports.look() == 10
    assert taking.taken == [
        {
            "scope": "shop/production",
            "instance": reports.instance,
            "epoch": 1,
            "version": 7,
            "state": "ready",
            "applied_at": "2026-11-24T02:00:00.250+00:00",
            "delay_s": 0.25,
            "levels": {"search": "warning"},
            "signals": {"search": {"errors": 0.07}},
        }
    ]


def test_SW6_a_document_that_is_refused_here_is_told_and_a_silent_service_is_not_bothered() -> None:
    plane, taking = begun(Scripted(sealed(7))), Taking()
    reports = Reports(plane, taking, chance=max)
    assert isinstance(plane.source, Scripted)
    plane.source.failure = Misuse("'spoilt' is not understood")
    plane.refresh()
    reports.look()
    assert taking.taken[-1]["state"] == "error"
    plane.source.failure = Unavailable("down")
    plane.refresh()
    reports.look()
    assert len(taking.taken) == 1


def test_a_report_that_does_not_arrive_stops_nothing_and_a_refused_one_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane, taking = begun(Scripted(sealed(7))), Taking()
    reports = Reports(plane, taking, chance=max)
    with caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        taking.failure = Unavailable("down")
        assert reports.look() == 10
        assert caplog.records == []
        taking.failure = Misuse("no such scope")
        for _ in range(3):
            reports.look()
    assert len(caplog.records) == 1


def test_SW11_a_child_reports_under_a_name_of_its_own() -> None:
    reports = Reports(begun(Scripted(sealed(7))), Taking(), chance=max)
    before = reports.instance
    reports.renew()
    assert reports.instance != before


def test_reports_keep_no_plane_alive() -> None:
    taking = Taking()
    reports = Reports(begun(Scripted(sealed(7))), taking, chance=max)
    gc.collect()
    reports.look()
    assert taking.taken == []
