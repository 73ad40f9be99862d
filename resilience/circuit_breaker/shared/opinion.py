"""What instances tell each other about one dependency, and what follows from it. No I/O, no clock."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from backstay.errors import Misuse

from ..states import Cause, State

__all__ = ["OVERRIDES", "Answer", "Question", "override_from", "override_text", "quorum"]

OVERRIDES: Final = {
    State.FORCED_OPEN: Cause.MANUAL_FORCE_OPEN,
    State.DISABLED: Cause.MANUAL_DISABLE,
    State.METRICS_ONLY: Cause.MANUAL_METRICS_ONLY,
}
"""What an operator can put on all instances, and how an instance gets there."""

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an instance tells and asks in one exchange.

    Attributes:
        version: grows with each exchange of an instance; an older one changes nothing.
        is_open: whether it holds, by what it saw itself, that the dependency fails.
        wanted: permits for probes that it asks for.
        held: permits that it keeps.
        permits: how many there are for all instances together.
        lease: seconds that a permit outlives its holder's last exchange.
        hold: seconds for which nobody is to probe, since a round of probes has just failed.
        leaves: whether this is its last exchange.
    """

    version: int
    is_open: bool = False
    wanted: int = 0
    held: int = 0
    permits: int = 1
    lease: float = 1.0
    hold: float = 0.0
    leaves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an instance hears.

    Attributes:
        live: instances that were heard lately, this one included.
        open: those that hold that the dependency fails.
        granted: permits for probes that it got.
        override: what an operator put on all instances.
    """

    live: int
    open: int
    granted: int = 0
    override: State | None = None


def quorum(live: int, share: float) -> int:
    """Return how many opinions act: more than `share` of the live instances, and never fewer than two (CB-9)."""
    return max(2, math.floor(live * share) + 1)


def override_text(state: State) -> str:
    """Return an override as it is stored.

    Raises:
        Misuse: the state is none that an operator can put on all instances.
    """
    given: Any = state
    if given not in OVERRIDES:
        known = ", ".join(f"State.{each.name}" for each in OVERRIDES)
        raise Misuse(f"an override is one of {known}, got {state!r}; `release` ends one")
    return json.dumps({"v": _FORMAT, "state": state.value})


def override_from(text: str) -> State | None:
    """Return the stored override; None where there is none, or one that this version does not know."""
    try:
        document: Any = json.loads(text) if text else None
        state = State(document["state"]) if document and document["v"] <= _FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None
    return state if state in OVERRIDES else None
