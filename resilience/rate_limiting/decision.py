"""What a bucket answered, and how that is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .rate import Rate, Scale

__all__ = ["NO_ROOM", "Decision", "Result", "decide", "wait"]

Result: TypeAlias = Literal["acquired", "limited", "store_error_open", "store_error_closed", "store_error_local"]
"""How a call came through or not; the closed set of the attribute `backstay.result` (section 7.3)."""

NO_ROOM = 0
"""The balance of a call whose key is new while a local limiter holds as many keys as it may."""

_NO_ROOM_WAIT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer of a rate limiter. It is true when the call is allowed, so `if limiter.try_acquire():` is right.

    Attributes:
        allowed: whether the tokens were taken.
        retry_after: seconds until the same call can be allowed if nobody else takes tokens; 0 when allowed.
        remaining: whole tokens left in the bucket.
        reset_after: seconds until the bucket is full if nobody takes tokens.
        limit: the rate that was applied.
        result: how it came about; `store_error_...` where the store did not answer.
    """

    allowed: bool
    retry_after: float
    remaining: int
    reset_after: float
    limit: Rate
    result: Result

    def __bool__(self) -> bool:
        return self.allowed


def wait(balance: int, scale: Scale) -> float:
    """Return the seconds that a refused call has to wait, given the balance (see `backend`)."""
    return _NO_ROOM_WAIT if balance == NO_ROOM else -balance / scale.second


def decide(balance: int, rate: Rate, scale: Scale, cost: int) -> Decision:
    """Return the decision that a balance stands for."""
    if balance > 0:
        return Decision(
            allowed=True,
            retry_after=0.0,
            remaining=max(0, scale.window - balance) // scale.token,
            reset_after=balance / scale.second,
            limit=rate,
            result="acquired",
        )
    if balance == NO_ROOM:
        return Decision(
            allowed=False,
            retry_after=_NO_ROOM_WAIT,
            remaining=0,
            reset_after=_NO_ROOM_WAIT,
            limit=rate,
            result="limited",
        )
    # Refused: `-balance` ticks are missing for `cost` tokens, so the bucket is that far from holding them.
    filled = cost * scale.token + balance
    return Decision(
        allowed=False,
        retry_after=-balance / scale.second,
        remaining=max(0, filled) // scale.token,
        reset_after=(scale.window - filled) / scale.second,
        limit=rate,
        result="limited",
    )
