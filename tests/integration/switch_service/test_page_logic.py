"""Logic of the page's modules, run where it runs: in Chromium, from the service."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from integration.switch_service.chromium import Site


@pytest.fixture
def page(site: Site) -> Page:
    return site.page(token="none")


def call(page: Page, module: str, expression: str, *given: Any) -> Any:
    script = f"async (given) => {{ const m = await import('/assets/{module}.js'); return ({expression})(...given); }}"
    return page.evaluate(script, list(given))


def test_silence_of_two_heartbeats_is_a_lost_connection(page: Page) -> None:
    told = """() => { const p = new m.Pulse(); p.began(0); const seen = [p.alive(1)];
      p.heard(100, 'version'); seen.push(p.alive(200), p.alive(10_600), p.alive(10_601));
      p.heard(11_000, 'version'); p.heard(12_000, 'heartbeat'); seen.push(p.alive(14_500), p.alive(14_501));
      p.heard(15_000, 'heartbeat'); p.broke(); seen.push(p.alive(15_001)); return seen; }"""
    assert call(page, "pulse", told) == [False, True, True, False, True, False, False]


def test_differences_name_each_entry(page: Page) -> None:
    old = {"switches": {"a": True, "b": {"split": {"x": 1}}, "gone": False}}
    new = {"switches": {"a": True, "b": {"split": {"x": 2}}}, "levels": {"db": {"force": "severe"}}}
    found = call(page, "diff", "(a, b) => m.differences(a, b).map((each) => each.section + ' ' + each.name)", old, new)
    assert found == ["levels db", "switches b", "switches gone"]
    lines = call(page, "diff", "m.compare", {"split": {"x": 1}, "same": 1}, {"split": {"x": 2}, "same": 1})
    assert lines == [{"path": "split › x", "old": "1", "new": "2"}]


def test_what_a_switch_is_in_words(page: Page) -> None:
    words = "(values) => values.map((each) => m.standing('s', each, Date.parse('2026-01-02T00:00:00Z')).text)"
    variants = {"variants": {"a": 1, "b": 2}, "default": "a", "off": "b"}
    given = [True, False, {"enabled": True, "percentage": 5}, {"enabled": False, "until": "2026-01-01T00:00:00Z"},
             variants, {**variants, "enabled": False}, {**variants, "split": {"b": 1}}]  # fmt: skip
    assert call(page, "model", words, given) == ["On", "Off", "On 5 %", "over", "a", "Off: b", "Split"]


def test_the_level_of_a_resource_is_the_worst_of_its_instances(page: Page) -> None:
    def change(second: int, instance: str, level: str) -> dict[str, str]:
        return {"at": f"2026-01-01T00:00:0{second}Z", "instance": instance, "resource": "db", "level": level}

    changes = [change(0, "a", "severe"), change(1, "b", "warning"), change(2, "a", "normal"), change(3, "b", "normal")]
    steps = "(all) => m.steps(all).db.map((each) => new Date(each.at).getUTCSeconds() + ' ' + each.level)"
    assert call(page, "timeline", steps, changes) == ["0 severe", "2 warning", "3 normal"]


def test_spans_and_delays_read_well(page: Page) -> None:
    assert call(page, "format", "(all) => all.map(m.span)", [5, 90, 3660, 90000]) == [
        "5 s",
        "1 min",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert call(page, "format", "(all) => all.map(m.delay)", [0.04, 1.25, -1, None]) == [
        "40 ms",
        "1.3 s",
        "clock behind",
        "not told",
    ]
