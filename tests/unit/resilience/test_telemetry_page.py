"""The page of metrics, the dashboard and the alert rules name what the source declares, and nothing else (7.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types of its own

from unit.resilience.metrics_in_source import Metric, declared, policy_types

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "telemetry.md"
BOARD = ROOT / "docker" / "dashboards" / "resilience.json"
RULES = ROOT / "docker" / "alerts" / "resilience.yml"
METRICS = declared()

PROPOSED = {
    "operation.duration": ("histogram", "s"),
    "operation.active": ("updowncounter", "{operation}"),
    "rate_limiter.requests": ("counter", "{request}"),
    "rate_limiter.wait.duration": ("histogram", "s"),
    "rate_limiter.queued_requests": ("updowncounter", "{request}"),
    "rate_limiter.utilization": ("gauge", "1"),
    "rate_limiter.store.duration": ("histogram", "s"),
    "circuit_breaker.calls": ("counter", "{call}"),
    "circuit_breaker.state": ("updowncounter", "1"),
    "circuit_breaker.transitions": ("counter", "{transition}"),
    "circuit_breaker.state.time": ("counter", "s"),
    "bulkhead.usage": ("updowncounter", "{permit}"),
    "bulkhead.limit": ("updowncounter", "{permit}"),
    "bulkhead.queue.usage": ("updowncounter", "{permit}"),
    "bulkhead.queue.limit": ("updowncounter", "{permit}"),
    "bulkhead.wait.duration": ("histogram", "s"),
    "timeout.calls": ("counter", "{call}"),
    "retry.attempts": ("counter", "{attempt}"),
    "config.age": ("gauge", "s"),
    "config.version": ("gauge", "1"),
    "config.connected": ("gauge", "1"),
    "config.applies": ("counter", "{apply}"),
}
"""The rows of section 7.3 that policies of calls must have."""


def rows() -> dict[str, tuple[str, str, set[str], set[str]]]:
    """Return the page's rows by metric: instrument, unit, attributes, signals."""
    found: dict[str, tuple[str, str, set[str], set[str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `backstay."):
            name, instrument, unit, attributes, signals, says = (cell.strip() for cell in line.strip("|").split(" | "))
            assert says
            keys = set(re.findall(r"`([^`]+)`", attributes))
            found[name.strip("`")] = (instrument, unit.strip("`"), keys, set(signals.split(", ")))
    return found


def test_the_page_has_each_metric_with_its_instrument_unit_and_attributes() -> None:
    written = {name: (instrument, unit, keys) for name, (instrument, unit, keys, _) in rows().items()}
    assert written == {name: (each.instrument, each.unit, each.attributes) for name, each in METRICS.items()}


def test_OT5_the_names_that_were_agreed_on_are_there() -> None:
    found = {name: (METRICS[f"backstay.{name}"].instrument, METRICS[f"backstay.{name}"].unit) for name in PROPOSED}
    assert found == PROPOSED


def test_the_types_of_policies_are_the_closed_list() -> None:
    closed = {
        "rate_limiter", "circuit_breaker", "bulkhead", "timeout", "retry", "fallback", "cache", "load_balancer",
        "degrade",
    }  # fmt: skip
    found = policy_types()
    assert {"rate_limiter", "circuit_breaker", "bulkhead", "timeout", "retry", "fallback"} <= found <= closed
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{kind}`" in text for kind in closed)


def test_OT6_units_are_seconds_ratios_or_things_in_the_singular() -> None:
    for metric in METRICS.values():
        assert re.fullmatch(r"s|1|\{[a-z_]+[^s]\}", metric.unit), metric
        durations = (".duration", ".time", ".age", ".delay", ".skew", ".lag")
        assert metric.name.endswith(durations) == (metric.unit == "s"), metric


@pytest.mark.parametrize(
    "family", ["operation", "rate_limiter", "circuit_breaker", "bulkhead", "concurrency_limit", "system_guard"]
)
def test_golden_signals_exist_by_construction(family: str) -> None:
    """What makes nobody wait has no latency of its own, and a breaker holds nothing: `operation` has theirs."""
    signals = set[str]().union(
        *(signal for name, (*_, signal) in rows().items() if name.startswith(f"backstay.{family}."))
    )
    expected = {"latency", "traffic", "errors", "saturation"}
    if family in ("circuit_breaker", "concurrency_limit", "system_guard"):
        expected -= {"latency"} | ({"saturation"} if family == "circuit_breaker" else set())
    assert expected <= signals


def test_OT4_no_attribute_can_take_a_callers_key() -> None:
    allowed = {
        "resource", "policy.name", "policy.type", "policy_kind", "result", "outcome", "error.type", "store", "state",
        "from", "to", "cause", "kind", "timed_out", "retried", "hedged", "refused_by", "source", "stale", "algorithm",
        "mode", "signal", "priority", "rule", "to_state", "reason",
    }  # fmt: skip
    assert set[str]().union(*(metric.attributes for metric in METRICS.values())) <= allowed


# --- dashboard and alerts ------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(BOARD.read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in rules())


BY_NAME: dict[str, Metric] = {name: metric for metric in METRICS.values() for name in metric.prometheus}
LABELS = {"backstay_" + key.replace(".", "_") for metric in METRICS.values() for key in metric.attributes}


def named_in(expression: str) -> set[str]:
    """Return the names of metrics in an expression; a name that may end in `_ratio` counts as the one without."""
    words = set(re.findall(r"\bbackstay_[a-z_]+", expression.replace("(_ratio)?", "")))
    return words - LABELS


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_dashboard_and_alerts_ask_for_metrics_and_labels_that_exist(expression: str) -> None:
    names = named_in(expression)
    assert names
    assert names <= set(BY_NAME)
    labels = set[str]().union(*(BY_NAME[name].labels for name in names)) | {"instance", "__name__"}
    asked = set(re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!=|=|!~)", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        asked |= {label.strip() for label in group.split(",")}
    assert asked <= labels
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_the_dashboard_shows_the_four_golden_signals_first_and_every_policy_after() -> None:
    titles = [panel["title"].partition(":")[0] for panel in panels()]
    assert titles[:5] == ["Golden signals", "Latency", "Traffic", "Errors", "Saturation"]
    shown = set[str]().union(*(named_in(target["expr"]) for panel in panels() for target in panel.get("targets", ())))
    families = {BY_NAME[name].name.split(".")[1] for name in shown}
    assert {
        "operation",
        "rate_limiter",
        "circuit_breaker",
        "bulkhead",
        "timeout",
        "retry",
        "fallback",
        "config",
    } <= families
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers))


def test_each_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert {rule["labels"]["signal"] for rule in rules()} == {"latency", "traffic", "errors", "saturation"}
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 10
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["action"][-1] in ".?"
        for label in re.findall(r"\$labels\.([a-z_]+)", str(rule["annotations"])):
            assert label in rule["expr"]
