"""Which orders of policies are known to be wrong, as data, each with its reason (CO-2)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RULES", "OrderWarning", "Rule", "broken", "warn_of"]


class OrderWarning(UserWarning):
    """The order of a pipeline's policies is known to do something that is hardly meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`outer` belongs outside `inner`, because otherwise what `otherwise` says."""

    outer: str
    inner: str
    otherwise: str


RULES = tuple(
    Rule(outer=outer, inner=inner, otherwise=otherwise)
    for outer, inner, otherwise in (
        ("operation", "fallback", "a degraded answer is measured as a good one"),
        ("operation", "retry", "attempts are measured as calls"),
        ("switch", "rate_limiter", "calls that are switched off are charged"),
        ("switch", "retry", "the refusal of a switch is retried"),
        ("fallback", "rate_limiter", "nobody answers for the limiter's refusals"),
        ("fallback", "timeout", "nobody answers when the time is over"),
        ("fallback", "retry", "the first failure is answered, so that nothing is ever retried"),
        ("fallback", "hedge", "the first failure is answered, so that a hedge never wins"),
        ("fallback", "circuit_breaker", "the breaker sees answers in place of failures and never opens"),
        ("fallback", "bulkhead", "a permit is held while the fallback answers, and nobody answers for refusals"),
        ("rate_limiter", "retry", "every attempt is charged as a call of its own"),
        ("rate_limiter", "hedge", "every hedge is charged as a call of its own"),
        ("timeout", "retry", "it bounds one attempt instead of all; that is attempt_timeout"),
        ("timeout", "attempt_timeout", "the time for one attempt bounds the time for all"),
        ("retry", "attempt_timeout", "it bounds all attempts and the waiting between them; that is timeout"),
        (
            "retry",
            "circuit_breaker",
            "the breaker counts many attempts as one call, and does not stop them",
        ),
        ("retry", "bulkhead", "a permit is held while it waits between attempts"),
        ("retry", "concurrency_limit", "waiting between attempts is taken for latency, and holds a permit"),
        ("retry", "load_balancer", "every attempt goes to the node that failed"),
        ("hedge", "bulkhead", "hedged calls run on one permit"),
        ("hedge", "circuit_breaker", "the breaker counts several calls as one"),
        ("circuit_breaker", "attempt_timeout", "the breaker never hears of a timeout and stays closed beside it"),
    )
)
"""Checked against every pipeline; the default order keeps them all."""


def broken(kinds: Sequence[str]) -> list[Rule]:
    """Return the rules that the order `kinds`, outermost first, breaks."""
    places: dict[str, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return [
        rule for rule in RULES
        if rule.outer in places and rule.inner in places and min(places[rule.inner]) < max(places[rule.outer])
    ]  # fmt: skip


def warn_of(name: str, kinds: Sequence[str], *, stacklevel: int) -> None:
    """Warn of each broken rule, once."""
    for rule in broken(kinds):
        warnings.warn(
            f"pipeline {name!r} has {rule.outer} inside {rule.inner}: {rule.otherwise}",
            OrderWarning,
            stacklevel=stacklevel + 1,
        )
