"""Pipelines as a consumer: a delivered section changes them with everything else, or nothing changes (SW-9)."""

from __future__ import annotations

import pytest

from backstay.errors import Misuse
from backstay.resilience import Pipeline, Pipelines
from backstay.resilience.delivery.envelope import Envelope
from backstay.resilience.delivery.plane import Plane
from backstay.testing import ManualClock
from unit.resilience.delivery.scripted import Keeping, Scripted


def words(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the policies that a document can bring."""
    return tuple(kind for kind in pipeline.order if kind != "operation")


def document(version: int, **sections: dict[str, object]) -> Envelope:
    return Envelope.seal(scope="shop/production", epoch=1, version=version, items=sections)


def test_SW9_a_delivered_section_changes_pipelines_and_switches_together() -> None:
    pipelines, keeping = Pipelines(), Keeping()
    payments = pipelines.define("payments")
    source = Scripted(document(1, switches={"a": 1}, pipelines={"payments": {"retry": 2}}))
    plane = Plane(source, clock=ManualClock()).attach(pipelines).attach(keeping)
    plane.start(watched=False)
    assert words(payments) == ("retry",)
    source.present = document(2, switches={"a": 2}, pipelines={"payments": {"retry": "no"}})
    assert not plane.refresh()
    assert (words(payments), keeping.now) == (("retry",), {"a": 1})
    assert "retry" in plane.status().problem
    source.present = document(3, switches={"a": 3, "spoilt": 1}, pipelines={"payments": {}})
    assert not plane.refresh()
    assert words(payments) == ("retry",)
    source.present = document(4, switches={"a": 4}, pipelines={"search": {"timeout": 1.0}})
    assert plane.refresh()
    assert (words(payments), words(pipelines["search"])) == ((), ("timeout",))


def test_SW9_pipelines_go_back_when_another_consumer_fails() -> None:
    pipelines, keeping = Pipelines(), Keeping()
    payments = pipelines.define("payments")
    source = Scripted(document(1))
    plane = Plane(source, clock=ManualClock()).attach(pipelines).attach(keeping)
    plane.start(watched=False)
    keeping.broken = True
    source.present = document(2, pipelines={"payments": {"retry": 2}, "search": {"retry": 2}})
    with pytest.raises(RuntimeError):
        plane.refresh()
    assert words(payments) == ()
    assert "search" not in pipelines


def test_a_section_is_checked_before_it_counts() -> None:
    pipelines = Pipelines()
    with pytest.raises(Misuse, match="no policy 'wrong'"):
        pipelines.prepare({"payments": {"wrong": 1}})
    change = pipelines.prepare({"payments": {"retry": 2}})
    assert "payments" not in pipelines
    change.apply()
    assert words(pipelines["payments"]) == ("retry",)
    change.undo()
    assert "payments" not in pipelines
