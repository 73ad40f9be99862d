"""From outcomes of calls and states of other policies to readings (DG-1, DG-3)."""

from __future__ import annotations

from collections.abc import Callable

from backstay.errors import BulkheadFull, Misuse, RateLimited, Rejected

from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker, State
from ..timeout import CallTimedOut
from .machine import Reading
from .settings import LevelSettings
from .window import ERROR, FULL, LIMITED, OK, TIMEOUT, Counts

__all__ = ["Watched", "outcome_of", "readings"]

_BREAKER = {State.OPEN: 2.0, State.HALF_OPEN: 1.0, State.FORCED_OPEN: 2.0}


def outcome_of(error: BaseException | None) -> int | None:
    """Return what a call's end counts as, or None where it says nothing of the resource.

    A refusal is no error: one by degradation, a breaker or a lock says nothing, one by a limit or a full bulkhead
    has a signal of its own. Cancellation and mistakes of the caller say nothing either.
    """
    if error is None:
        return OK
    if isinstance(error, RateLimited):
        return LIMITED
    if isinstance(error, BulkheadFull):
        return FULL
    if isinstance(error, Rejected | Misuse) or not isinstance(error, Exception):
        return None
    return TIMEOUT if isinstance(error, CallTimedOut | TimeoutError) else ERROR


class Watched:
    """Other policies and dependencies that a resource looks at when it is evaluated."""

    __slots__ = ("breakers", "bulkheads", "required")

    def __init__(self) -> None:
        self.breakers: tuple[CircuitBreaker, ...] = ()
        self.bulkheads: tuple[Bulkhead, ...] = ()
        self.required: tuple[Callable[[], bool], ...] = ()

    def readings(self, counts: Counts, minimum_calls: int) -> dict[str, Reading]:
        """Return the readings of states; `counts` tell how many calls found bulkheads full.

        What a function of `required` raises passes.
        """
        found: dict[str, Reading] = {}
        if self.breakers:
            found["breakers"] = Reading(max(_BREAKER.get(breaker.state, 0.0) for breaker in self.breakers))
        if self.required:
            found["dependency"] = Reading(float(any(down() for down in self.required)))
        total = sum(counts)
        values = [bulkhead.in_use / bulkhead.settings.max_concurrent for bulkhead in self.bulkheads]
        if total:
            values.append(counts[FULL - 1] / total)
        if values:
            found["saturation"] = Reading(max(values), bool(self.bulkheads) or total >= minimum_calls)
        return found


def readings(counts: Counts, run: int, settings: LevelSettings) -> dict[str, Reading]:
    """Return the readings of counted calls.

    Args:
        counts: of the window.
        run: successes since the last failure, in the window or before it.
        settings: say how many calls are enough.
    """
    ok, error, timeout, limited, _ = counts
    ended, failed = ok + error + timeout, error + timeout
    firm = ended >= settings.minimum_calls
    asked = ended + limited
    found = {"failures": Reading(float(failed))}
    if ended >= min(settings.minimum_probes, settings.minimum_calls):
        found["errors"] = Reading(failed / ended, firm)
        found["timeouts"] = Reading(timeout / ended, firm)
    elif run >= settings.minimum_probes:
        found["errors"] = found["timeouts"] = Reading(0.0, False)
    if asked:
        found["limited"] = Reading(limited / asked, asked >= settings.minimum_calls)
    return found
