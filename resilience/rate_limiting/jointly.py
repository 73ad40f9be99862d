"""What both faces of joint rules are made of: checks, counting, and how several buckets' answers become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.telemetry import gauge

from .backend import StoreFailed, Taken
from .backends.memory import MemoryBuckets
from .backends.memory_steps import take_all
from .carry import Carry, carry_of
from .decision import Decision, Result, decide
from .failure import FailureMode, failure_mode
from .http import collector
from .rate import Rate
from .telemetry import Requests

__all__ = ["JointDecision", "Jointly", "Step"]

Step: TypeAlias = tuple[str, str, int]
"""Which rule, whose bucket, how many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointDecision:
    """The answer of several rules; true when all of them were charged.

    Attributes:
        allowed: whether every bucket was charged.
        retry_after: seconds until the same call can be allowed if nobody else takes tokens; 0 when allowed.
        rule: the rule that refuses longest; None when allowed.
        rules: what each rule said. In a refused call those that are `allowed` would have let it through, and were not
            charged.
        result: how it came about; `store_error_...` where the store did not answer.
    """

    allowed: bool
    retry_after: float
    rule: str | None
    rules: Mapping[str, Decision]
    result: Result

    def __bool__(self) -> bool:
        return self.allowed


class Jointly:
    """Rules, their buckets, and everything that does not wait for a store."""

    def __init__(
        self,
        buckets: dict[str, Any],
        name: str,
        resource: str | None,
        on_store_failure: FailureMode,
        local_share: float,
        announced: Mapping[str, str] | None = None,
    ) -> None:
        failure_mode(on_store_failure, local_share)
        self.name = name
        self.buckets = buckets
        self.in_memory = all(isinstance(each, MemoryBuckets) for each in buckets.values())
        self._mode = on_store_failure
        self._share = local_share
        self._announced = announced or {}  # what rules are called in fields of answers
        self._local = {
            rule: MemoryBuckets(each.rate.share(local_share))
            for rule, each in buckets.items()
            if on_store_failure == "local"
        }
        self._requests = Requests(name, resource or name)
        for rule, each in buckets.items():
            gauge(
                "rate_limiter.utilization",
                "1",
                each.utilization,
                resource=resource or name,
                policy_name=f"{name}.{rule}",
                policy_type="rate_limiter",
            )

    @property
    def rules(self) -> dict[str, Rate]:
        """The rules and their rates."""
        return {rule: each.rate for rule, each in self.buckets.items()}

    def reconfigure(self, rule: str, rate: object, carry: Carry = "proportional") -> None:
        """Go over to another rate of one rule while calls run, as `RateLimiter.reconfigure` does."""
        self._known(rule)
        new, way = Rate.of(rate), carry_of(carry)
        self.buckets[rule].reconfigure(new, way)
        if rule in self._local:
            self._local[rule].reconfigure(new.share(self._share), way)

    def steps(self, keys: Mapping[str, str | None], cost: int | Mapping[str, int]) -> list[Step]:
        """Return what a call charges.

        Raises:
            Misuse: a rule is missing or unknown, a key is no text, or a cost can never be granted.
        """
        for rule in keys:
            self._known(rule)
        if isinstance(cost, Mapping):
            for rule in cost:
                self._known(rule)
        steps: list[Step] = []
        for rule, each in self.buckets.items():
            if rule not in keys:
                raise Misuse(f"rules {self.name!r}: no key for {rule!r}; give None to leave it out of this call")
            key: Any = keys[rule]
            if key is None:
                continue
            if not isinstance(key, str):
                raise Misuse(f"rules {self.name!r}: the key of {rule!r} must be a str, got {type(key).__name__}")
            tokens: Any = cost.get(rule, 1) if isinstance(cost, Mapping) else cost
            if type(tokens) is not int or not 1 <= tokens <= each.rate.capacity:
                raise Misuse(
                    f"rules {self.name!r}: cost of {rule!r} must be a whole number from 1 to the burst of "
                    f"{each.rate.capacity}, got {tokens!r}; a larger cost can never be granted: raise the burst"
                )
            steps.append((rule, str.__str__(key), tokens))
        if not steps:
            raise Misuse(f"rules {self.name!r}: every rule is left out; nothing would be limited")
        return steps

    def _known(self, rule: str) -> None:
        if rule not in self.buckets:
            raise Misuse(f"rules {self.name!r}: unknown rule {rule!r}; known: {', '.join(self.buckets)}")

    def noted(self, steps: Sequence[Step], allowed: bool, taken: list[Taken]) -> list[Taken]:
        """Note how empty buckets on a server are that were charged."""
        if allowed:
            for (rule, _, _), each in zip(steps, taken, strict=True):
                self.buckets[rule].noted(each)
        return taken

    def told(self, steps: Sequence[Step], taken: Sequence[Taken], result: Result = "acquired") -> JointDecision:
        """Count a call and return the decision that the buckets' answers come to."""
        allowed = all(each.balance > 0 for each in taken)
        rules: dict[str, Decision] = {}
        for (rule, _, cost), each in zip(steps, taken, strict=True):
            balance = each.balance
            if balance > 0 and not allowed:
                balance -= cost * each.scale.token  # not charged
            rules[rule] = decide(balance, each.rate, each.scale, cost) if balance else _full(each.rate)
        refusals = [rule for rule, each in zip(rules, taken, strict=True) if each.balance <= 0]
        longest = max(refusals, key=lambda rule: rules[rule].retry_after) if refusals else None
        if result == "acquired":
            self._announce(rules)
        if result == "store_error_local":
            self._requests.store_error_local.n += 1
        elif allowed:
            self._requests.acquired.n += 1
        else:
            result = "limited"
            self._requests.limited.n += 1
        return JointDecision(
            allowed=allowed,
            retry_after=rules[longest].retry_after if longest is not None else 0.0,
            rule=longest,
            rules=rules,
            result=result,
        )

    def _announce(self, rules: Mapping[str, Decision]) -> None:
        collected = collector() if self._announced else None
        if collected is not None:
            for rule, decision in rules.items():
                if rule in self._announced:
                    collected.note(self._announced[rule], decision)

    def alone(self, steps: Sequence[Step], failure: StoreFailed) -> JointDecision:
        """Return the decision that the failure mode makes."""
        if self._local:
            share = [(self._local[rule], key, min(cost, self._local[rule].rate.capacity)) for rule, key, cost in steps]
            return self.told(
                [(rule, key, cost) for (rule, key, _), (_, _, cost) in zip(steps, share, strict=True)],
                take_all(share, 0.0)[1],
                "store_error_local",
            )
        result: Result = "store_error_open" if self._mode == "open" else "store_error_closed"
        if result == "store_error_open":
            self._requests.store_error_open.n += 1
        else:
            self._requests.store_error_closed.n += 1
        return JointDecision(allowed=self._mode == "open", retry_after=0.0, rule=None, rules={}, result=result)

    def demand(self, decision: JointDecision) -> None:
        """Return if a decision allows the call.

        Raises:
            RateLimited: a rule refused.
            Unavailable: the store gave no answer, and the mode is `closed`.
        """
        if decision.allowed:
            return
        if decision.result == "store_error_closed":
            raise Unavailable(
                f"rules {self.name!r} got no answer from their store and refuse meanwhile, because "
                "on_store_failure='closed'; nothing was called"
            )
        rule = decision.rule or ""
        raise RateLimited(
            f"rules {self.name!r}: over {rule} of {decision.rules[rule].limit}; retry in {decision.retry_after:.3g} s",
            retry_after=decision.retry_after,
            rule=rule,
        )

    def __repr__(self) -> str:
        rules = ", ".join(f"{rule}={rate}" for rule, rate in self.rules.items())
        return f"{type(self).__name__}({self.name!r}, {rules})"


def _full(rate: Rate) -> Decision:
    return Decision(
        allowed=True, retry_after=0.0, remaining=rate.capacity, reset_after=0.0, limit=rate, result="acquired"
    )
