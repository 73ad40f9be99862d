"""Decisions as HTTP fields: `Retry-After`, and `RateLimit` and `RateLimit-Policy` of the IETF's draft (RL-12).

Written to draft-ietf-httpapi-ratelimit-headers-11 of May 2026: both fields are lists of structured strings (RFC
9651) with parameters. `q` is what a full bucket grants, `w` the seconds in which an empty one fills, `r` the whole
tokens that are left. `t` says for how long no more than `r` is promised: until the bucket is full, or, in a
refusal, until the same call can be granted. Seconds are rounded up, so nothing is promised too early.

A refusal says all that by itself (`headers`). For answers to calls that were allowed, a middleware opens
`collecting()` round the request, and limiters that `announce` tell it what they decided.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from .decision import Decision

__all__ = ["Collected", "collecting", "collector", "headers", "note"]

_LONGEST = 999_999_999_999_999  # integers of structured fields have 15 digits


class Collected:
    """What limiters decided on behalf of one request, one decision a limiter."""

    __slots__ = ("_decisions",)

    def __init__(self) -> None:
        self._decisions: dict[str, Decision] = {}

    def note(self, name: str, decision: Decision) -> None:
        """Keep a decision. A limiter's later decision replaces an earlier one, except that a refusal stays."""
        known = self._decisions.get(name)
        if known is None or known.allowed or not decision.allowed:
            self._decisions[name] = decision

    def headers(self) -> dict[str, str]:
        """Return the fields of all decisions together; nothing where no limiter was asked."""
        fields: dict[str, list[str]] = {}
        retry_after = 0
        for name, decision in self._decisions.items():
            for field, value in headers(decision, name=name).items():
                if field == "Retry-After":
                    retry_after = max(retry_after, int(value))
                else:
                    fields.setdefault(field, []).append(value)
        joined = {field: ", ".join(values) for field, values in fields.items()}
        return joined | {"Retry-After": str(retry_after)} if retry_after else joined


def headers(decision: Decision, *, name: str = "default") -> dict[str, str]:
    """Return the HTTP fields of a decision.

    Guarantees: they agree with the decision, rounded so that a client which obeys is not refused for it.
    Where the store did not answer nobody knows what is left, and `RateLimit` and `RateLimit-Policy` are left out.

    Args:
        decision: of any limiter.
        name: of the limiter; it goes out to clients.
    """
    fields: dict[str, str] = {}
    retry_after = 0 if decision.allowed else _seconds(max(decision.retry_after, 1.0))
    if decision.result in ("acquired", "limited"):
        rate, quoted = decision.limit, _quoted(name)
        window = _seconds(rate.capacity * rate.period_us / rate.count / 1_000_000)
        fields["RateLimit-Policy"] = f"{quoted};q={rate.capacity};w={window}"
        effective = retry_after or _seconds(decision.reset_after)
        fields["RateLimit"] = f"{quoted};r={decision.remaining};t={effective}"
    if retry_after:
        fields["Retry-After"] = str(retry_after)
    return fields


@contextmanager
def collecting() -> Generator[Collected]:
    """Collect the decisions made inside, also in tasks and threads that were given this context."""
    collected = Collected()
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def note(name: str, decision: Decision) -> None:
    """Tell whoever collects for this request, if anybody does."""
    collected = _collected.get()
    if collected is not None:
        collected.note(name, decision)


def collector() -> Collected | None:
    """Return who collects for this request."""
    return _collected.get()


def _seconds(value: float) -> int:
    return min(math.ceil(value), _LONGEST)


def _quoted(name: str) -> str:
    """Return a structured string: printable ASCII between quotation marks."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in name)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


_collected: ContextVar[Collected | None] = ContextVar("backstay_rate_limit_decisions", default=None)
