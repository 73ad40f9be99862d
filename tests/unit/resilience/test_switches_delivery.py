"""Switches on the delivery: planes, envelopes, pinned views, kept copies, ends by themselves (SW-5, SW-7, SW-9)."""

from __future__ import annotations

import asyncio
import json
import threading
import timeit
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse, Unavailable
from backstay.resilience import Switches
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.switches import Switch
from backstay.resilience.switches.document import read
from backstay.resilience.switches.polled import written
from backstay.testing import ManualClock
from unit.resilience.delivery.scripted import Keeping, Scripted, sealed

SHARES = st.sampled_from([0, 0.001, 25, 33.333, 100])
STATES = st.one_of(
    st.builds(Switch, enabled=st.booleans(), reason=st.text(max_size=10), percentage=st.none() | SHARES),
    st.builds(
        Switch,
        enabled=st.booleans(),
        variants=st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.floats(0, 1)}),
        default=st.just("a"),
        off=st.sampled_from(["", "b"]),
        split=st.just({}) | st.builds(lambda share: {"b": share}, SHARES),
        until=st.none() | st.just("2026-11-24T22:00:00Z"),
    ),
)


@given(STATES)
def test_what_is_written_of_a_switch_is_read_as_the_same_switch(switch: Switch) -> None:
    assert read(json.loads(json.dumps({"s": written(switch)})))["s"] == switch


def test_SW9_a_plane_brings_one_document_to_switches_and_others() -> None:
    source, keeping = Scripted(sealed(3, a=True)), Keeping("levels")
    plane = Plane(source, clock=ManualClock())
    switches = Switches(plane, defaults={"b": False})
    plane.attach(keeping).start(watched=False)
    assert (switches.enabled("a"), switches.enabled("b"), switches.snapshot().version) == (True, False, 3)
    source.present = sealed(7, a=False, b=True)
    assert plane.refresh()
    assert (switches.enabled("a"), switches.enabled("b"), switches.status().version) == (False, True, 7)
    source.present = sealed(8, a="wrong")
    assert not plane.refresh()
    assert (switches.enabled("a"), switches.snapshot().version, switches.status().state) == (False, 7, "error")


def test_SW9_switches_go_back_when_another_consumer_fails() -> None:
    source, keeping = Scripted(sealed(1, a=True, gone=False)), Keeping("levels")
    plane = Plane(source, clock=ManualClock())
    switches = Switches(plane)
    plane.attach(keeping).start(watched=False)
    keeping.broken = True
    source.present = sealed(2, a=False)
    with pytest.raises(RuntimeError):
        plane.refresh()
    assert (switches.enabled("a"), switches.enabled("gone"), switches.snapshot().version) == (True, False, 1)


def test_SW9_a_pinned_request_sees_one_document_from_start_to_end() -> None:
    source = Scripted(sealed(1, a=True, n={"variants": {"x": 1}, "default": "x"}))
    switches = Switches(source, interval=None)
    with switches.pinned() as view:
        source.present = sealed(2, a=False, n={"variants": {"x": 2}, "default": "x"})
        assert switches.refresh()
        assert (switches.enabled("a"), switches.number("n"), view.version) == (True, 1, 1)
        assert switches.details("n").version == 1
        elsewhere: list[bool] = []
        thread = threading.Thread(target=lambda: elsewhere.append(switches.enabled("a")))
        thread.start()
        thread.join()
        assert elsewhere == [False]  # another request
        with switches.pinned():  # of a request that has one already: the same
            assert switches.enabled("a")
        with pytest.raises(Misuse, match="no switch 'missing'; known: a, n"):
            switches.enabled("missing")
    assert (switches.enabled("a"), switches.number("n")) == (False, 2)


def test_SW9_pinned_tasks_do_not_disturb_each_other() -> None:
    source = Scripted(sealed(1, a=True))
    switches = Switches(source, interval=None)

    async def request(go_on: asyncio.Event, pinned: asyncio.Event) -> bool:
        with switches.pinned():
            pinned.set()
            await go_on.wait()
            return await asyncio.create_task(inside())

    async def inside() -> bool:
        return switches.enabled("a")

    async def both() -> list[bool]:
        go_on, one, two = asyncio.Event(), asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(request(go_on, one))
        await one.wait()
        source.present = sealed(2, a=False)
        switches.refresh()
        second = asyncio.create_task(request(go_on, two))
        await two.wait()
        go_on.set()
        return [await first, await second]

    assert asyncio.run(both()) == [True, False]


def test_SW9_a_pinned_read_stays_below_0_3_us_times_two() -> None:
    switches = Switches.connect("memory://", defaults={"a": True}, interval=None)
    with switches.pinned():
        took = min(timeit.repeat(lambda: switches.enabled("a"), number=10_000, repeat=7)) / 10_000
    assert took < 0.6e-6


def test_SW7_switches_start_with_the_kept_copy(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    source = Scripted(sealed(3, a=False))
    assert not Switches(source, interval=None, keep=kept).enabled("a")
    source.failure = Unavailable("down")
    again = Switches(source, interval=None, keep=kept)
    assert not again.enabled("a")
    assert again.status().state == "stale"
    with pytest.raises(Misuse, match="down; mend it, or give defaults"):
        Switches(source, interval=None)


def test_a_file_may_hold_an_envelope_as_a_service_exports_it(tmp_path: Path) -> None:
    path = tmp_path / "exported.json"
    path.write_bytes(sealed(42, a=False).to_bytes())
    switches = Switches.connect(path, interval=None)
    assert (switches.enabled("a"), switches.status().version) == (False, 42)
    path.write_bytes(sealed(41, a=True).to_bytes())
    assert not switches.refresh()
    assert not switches.enabled("a")


def test_a_file_may_hold_the_sections_of_others(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text("[switches]\na = true\n[levels.shop]\nforce = 'severe'\n[pipelines.payments]\nretry = 2\n")
    assert Switches.connect(path, interval=None).enabled("a")
    path.write_text("[switches]\na = false\n[swithces]\n")
    with pytest.raises(Misuse, match="unknown entry 'swithces'"):
        Switches.connect(path, interval=None)


def test_a_switch_ends_between_two_looks() -> None:
    clock, wall = ManualClock(), ManualClock(1_795_557_590.0)  # ten seconds before 2026-11-24T22:00:00Z
    source = Scripted(sealed(1, a={"enabled": False, "until": "2026-11-24T22:00:00Z"}))
    plane = Plane(source, clock=clock, chance=max)
    switches = Switches(plane, wall=wall)
    plane.start(watched=False)
    asked = len(source.asked)
    assert plane.look() == pytest.approx(10, abs=0.001)
    assert not switches.enabled("a")
    wall.advance(10)
    clock.advance(10)
    assert plane.look() == pytest.approx(20, abs=0.001)
    assert switches.enabled("a")
    assert len(source.asked) == asked


@pytest.mark.parametrize("interval", [0.0, -1, 3601])
def test_intervals_out_of_range_are_told(interval: Any) -> None:
    with pytest.raises(Misuse, match="interval"):
        Switches(Scripted(sealed(1)), interval=interval)
