"""What a breaker measures: the rows `circuit_breaker.*` of section 7.3."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import Counter, accrued, counter, level

from .states import Cause, State

__all__ = ["Calls", "count_transition", "export_states"]


class Calls:
    """Counters of one breaker's calls, one a result; their sum is the number of calls (no counter of its own)."""

    __slots__ = ("failure", "ignored", "neutral", "not_permitted", "slow_failure", "slow_success", "success")

    def __init__(self, name: str) -> None:
        def count(result: str) -> Counter:
            return counter(
                "circuit_breaker.calls",
                "{call}",
                resource=name,
                policy_name=name,
                policy_type="circuit_breaker",
                result=result,
            )

        self.success = count("success")
        self.failure = count("failure")
        self.slow_success = count("slow_success")
        self.slow_failure = count("slow_failure")
        self.ignored = count("ignored")
        self.not_permitted = count("not_permitted")
        self.neutral = count("neutral")


def count_transition(name: str, before: State, after: State, cause: Cause) -> None:
    """Count one transition."""
    transitions = counter(
        "circuit_breaker.transitions", "{transition}", resource=name, policy_name=name, policy_type="circuit_breaker",
        from_=before.value, to=after.value, cause=cause.value,
    )  # fmt: skip
    transitions.n += 1


def export_states(
    name: str, is_in: Callable[[State], Callable[[], float]], spent: Callable[[State], Callable[[], float]]
) -> None:
    """Export one series a state: whether the breaker is in it (their sum is 1), and how long it has been in all."""
    for state in State:
        about = {"resource": name, "policy_name": name, "policy_type": "circuit_breaker", "state": state.value}
        level("circuit_breaker.state", "1", is_in(state), **about)
        accrued("circuit_breaker.state.time", "s", spent(state), **about)
