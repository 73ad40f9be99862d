"""The race of one call's attempts, written once for both colours.

Start the first; wait for an answer no longer than the delay; start the next if the budget has a token. An attempt
that fails starts the next at once. The first good answer ends the race and the others are let go. A refusal
starts nothing, an error that is not among those to hedge is an answer, and if all fail the first error is raised:
it is the one that the call would have met without a hedge. Cancellation, interrupts and exit end everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from backstay.errors import Misuse, Rejected, Unavailable

from .settings import HedgeSettings

__all__ = ["Attempts", "Ended", "Reason", "race"]

Reason: TypeAlias = Literal["delay", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that has ended: with a value, or with an error. The first attempt is number 1."""

    number: int
    value: Any = None
    error: BaseException | None = None


class Attempts(Protocol):
    """Port: where the attempts of one call run."""

    def start(self) -> None:
        """Start the next attempt in a copy of the caller's context.

        Raises:
            Rejected: there is no room for it.
            Unavailable: there never will be.
        """
        ...

    async def next(self, wait: float | None) -> Ended | None:
        """Return the next attempt that ends, or None after `wait` seconds."""
        ...

    def abandon(self) -> None:
        """Let go of all that still run: cancelled where that can be done. Never waits, never raises."""
        ...


async def race(attempts: Attempts, rules: HedgeSettings, delay: float | None, spend: Callable[[Reason], bool]) -> Ended:
    """Return the attempt that won.

    Args:
        attempts: where they run.
        rules: the settings of the call.
        delay: seconds until the next attempt; None for none out of slowness.
        spend: takes a token for one more attempt.

    Raises:
        the first error, if every attempt failed; an error that is an answer, at once.
    """
    try:
        attempts.start()
        left, running = rules.at_most - 1, 1
        first: BaseException | None = None
        while True:
            ended = await attempts.next(delay if left else None)
            reason: Reason | None = "delay"
            if ended is not None:
                if ended.error is None:
                    return ended
                if not isinstance(ended.error, (*rules.on, Rejected)) or isinstance(ended.error, Misuse):
                    raise ended.error
                running -= 1
                first = first or ended.error
                reason = None if isinstance(ended.error, Rejected) else "failure"
            if left and reason is not None:
                if spend(reason) and _started(attempts):
                    left -= 1
                    running += 1
                else:
                    left = 0
            if running == 0 and first is not None:
                raise first
    finally:
        attempts.abandon()


def _started(attempts: Attempts) -> bool:
    try:
        attempts.start()
    except (Rejected, Unavailable):  # no room: the attempts that run may still answer
        return False
    return True
