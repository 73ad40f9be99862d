"""The order of policies is data: the default, a place beside another kind, an order of one's own (CO-1, CO-2)."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from itertools import permutations
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.pipeline import RULES, OrderWarning, Pipeline, Rule, placed
from backstay.resilience.pipeline.rules import broken
from backstay.resilience.policy import ORDER, Target
from backstay.telemetry import snapshot


class Step:
    """A policy of any kind that writes down when calls pass."""

    def __init__(self, kind: str, passed: list[str], name: str = "") -> None:
        self.kind = kind
        self.name = name or kind
        self.passed = passed

    def wrap(self, call: Callable[..., Any], target: Target) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.passed.append(self.name)
            return call(*args, **kwargs)

        return step

    def wrap_async(self, call: Callable[..., Awaitable[Any]], target: Target) -> Callable[..., Awaitable[Any]]:
        async def step(*args: Any, **kwargs: Any) -> Any:
            self.passed.append(self.name)
            return await call(*args, **kwargs)

        return step


def work() -> str:
    return "done"


async def work_async() -> str:
    return "done"


def passes(pipeline: Pipeline, passed: list[str], *, is_async: bool) -> list[str]:
    passed.clear()
    result = asyncio.run(pipeline(work_async)()) if is_async else pipeline(work)()
    assert result == "done"
    return list(passed)


CO1 = (
    "operation", "switch", "fallback", "rate_limiter", "timeout", "retry", "circuit_breaker", "attempt_timeout",
    "bulkhead", "load_balancer",
)  # fmt: skip


def test_CO1_the_default_order_is_that_of_the_specification() -> None:
    assert tuple(kind for kind in ORDER if kind in CO1) == CO1


@pytest.mark.parametrize("is_async", [False, True])
def test_CO1_calls_pass_in_the_default_order_whatever_the_order_of_the_arguments(is_async: bool) -> None:
    passed: list[str] = []
    kinds = ["bulkhead", "retry", "rate_limiter", "circuit_breaker"]
    for shuffled in permutations(kinds):
        pipeline = Pipeline("shuffled", *(Step(kind, passed) for kind in shuffled))
        expected = ["rate_limiter", "retry", "circuit_breaker", "bulkhead"]
        assert passes(pipeline, passed, is_async=is_async) == expected
        assert pipeline.order == ("operation", *expected)


def test_policies_of_one_kind_stand_as_they_were_given() -> None:
    passed: list[str] = []
    pipeline = Pipeline("two", *(Step("rate_limiter", passed, name) for name in ("app", "user")))
    assert passes(pipeline, passed, is_async=False) == ["app", "user"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"after": "retry"}, ["retry", "audit", "bulkhead"]),
        ({"before": "retry"}, ["audit", "retry", "bulkhead"]),
        ({"after": "load_balancer"}, ["retry", "bulkhead", "audit"]),
        ({"before": "circuit_breaker"}, ["retry", "audit", "bulkhead"]),
        ({"after": "operation"}, ["audit", "retry", "bulkhead"]),
    ],
)
def test_CO2_an_object_of_an_unknown_kind_joins_by_its_place(place: dict[str, str], expected: list[str]) -> None:
    passed: list[str] = []
    own = placed(Step("audit", passed), **place)
    pipeline = Pipeline("own", own, Step("bulkhead", passed), Step("retry", passed))
    assert passes(pipeline, passed, is_async=False) == expected
    assert passes(pipeline, passed, is_async=True) == expected


def test_CO2_an_order_of_ones_own_is_kept_and_known_mistakes_are_warned_of_with_their_reason() -> None:
    passed: list[str] = []
    steps = [Step(kind, passed) for kind in ("retry", "bulkhead", "audit")]
    with pytest.warns(OrderWarning, match="'own' has retry inside bulkhead: a permit is held while it waits") as seen:
        pipeline = Pipeline("own", *steps, order=["bulkhead", "audit", "retry"])
    assert seen[0].filename == __file__
    assert passes(pipeline, passed, is_async=False) == ["bulkhead", "audit", "retry"]
    with pytest.warns(OrderWarning):
        pipeline = Pipeline("given", *(Step(kind, passed) for kind in ("bulkhead", "retry")), order="given")
    assert pipeline.order == ("operation", "bulkhead", "retry")
    with pytest.warns(OrderWarning) as seen:
        pipeline.replace(*(Step(kind, passed) for kind in ("retry", "fallback")), order="given")
    assert seen[0].filename == __file__


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.outer}-{rule.inner}")
def test_CO2_each_rule_warns_of_the_wrong_order_and_not_of_the_right_one(rule: Rule) -> None:
    right, wrong = Step(rule.outer, []), Step(rule.inner, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OrderWarning)
        Pipeline("right", wrong, right)
        Pipeline("right", right, wrong, order=[rule.outer, rule.inner])
    with pytest.warns(OrderWarning, match=f"has {rule.outer} inside {rule.inner}: {rule.otherwise[:20]}"):
        Pipeline("wrong", right, wrong, order=[rule.inner, rule.outer] if rule.outer != "operation" else
                 [rule.inner, "operation"])  # fmt: skip


def test_CO2_the_default_order_breaks_no_rule_and_every_rule_speaks_of_kinds_that_exist() -> None:
    assert broken(ORDER) == []
    assert {kind for rule in RULES for kind in (rule.outer, rule.inner)} <= set(ORDER)
    assert len(broken(tuple(reversed(ORDER)))) == len(RULES)


def test_CO2_a_pipeline_prints_its_order_outermost_first() -> None:
    pipeline = Pipeline("payments", Step("bulkhead", []), Step("rate_limiter", [], "per user"))
    lines = str(pipeline).splitlines()
    assert lines[0] == "pipeline 'payments', outermost first:"
    assert [line.split() for line in lines[1:]] == [
        ["operation"], ["rate_limiter", "per", "user"], ["bulkhead", "bulkhead"],
    ]  # fmt: skip
    assert repr(pipeline) == "Pipeline('payments': operation > rate_limiter > bulkhead)"


def test_CO2_the_order_is_part_of_the_telemetry() -> None:
    pipeline = Pipeline("exported", Step("bulkhead", [], "b"), Step("retry", [], "r"))

    def places() -> list[float]:
        now = snapshot()
        return [
            now.value("pipeline.position", resource="exported", policy_name=name) for name in ("exported", "r", "b")
        ]

    assert places() == [0, 1, 2]
    pipeline.replace(Step("bulkhead", [], "b"))
    assert places() == [0, 0, 1]  # the retry's series is gone, which reads 0


class Halfway:
    kind = "half"

    def wrap(self, call: Any, target: Target) -> Any:
        return call


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Pipeline(""), "name first"),
        (lambda: Pipeline(work), "name first"),  # type: ignore[arg-type]
        (lambda: Pipeline("p", 3), "a policy has kind, wrap and wrap_async"),  # type: ignore[arg-type]
        (lambda: Pipeline("p", Step), "a policy has kind"),  # type: ignore[arg-type]
        (lambda: Pipeline("p", Halfway()), "a policy has kind"),  # type: ignore[arg-type]
        (lambda: Pipeline("p", Step("audit", [])), r"no place for kind 'audit'; say placed\(policy, after='retry'\)"),
        (lambda: Pipeline("p", Step("retry", []), order=["bulkhead"]), "order leaves out 'retry'"),
        (lambda: Pipeline("p", order=["bulkhead", "retry", "bulkhead"]), "names 'bulkhead' twice"),
        (lambda: Pipeline("p", order="mine"), "'given'"),
        (lambda: Pipeline("p", order=[]), "list of kinds"),
        (lambda: Pipeline("p", order=[3]), "list of kinds"),  # type: ignore[list-item]
        (lambda: Pipeline("p", placed(Step("audit", []), after="retry"), order="given"), "without placed"),
        (lambda: placed(Step("audit", [])), "either after= or before="),
        (lambda: placed(Step("audit", []), after="retry", before="retry"), "either after= or before="),
        (lambda: placed(Step("audit", []), after="retries"), "no policies of kind 'retries'.*known: operation"),
    ],
)
def test_mistakes_are_found_when_a_pipeline_is_made(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        make()
