"""Every transition of a TCC transaction and of its branches, in one table each.

Pure. The journal's conditional updates take their `WHERE state IN (...)` from here and the diagrams in the
documentation are drawn from here, so neither can drift.

A transaction only ever moves forward, and is decided once: CONFIRMING and CANCELLING both leave from TRYING
alone. A branch that used up its attempts is DEAD: parked, visible, and moved again by an operator only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = [
    "BRANCH",
    "OPEN",
    "TRANSACTION",
    "BranchEvent",
    "BranchState",
    "Event",
    "Outcome",
    "State",
    "draw",
    "outcome",
    "sources",
]


class State(StrEnum):
    """The states of a transaction."""

    TRYING = "trying"
    CONFIRMING = "confirming"
    CANCELLING = "cancelling"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What moves a transaction."""

    DECIDE_CONFIRM = "decide confirm"
    DECIDE_CANCEL = "decide cancel"
    ALL_CONFIRMED = "all branches confirmed"
    ALL_CANCELLED = "all branches cancelled"


class BranchState(StrEnum):
    """The states of a branch, as the coordinator knows them."""

    LOGGED = "logged"  # its try may have been sent, or not
    TRIED = "tried"
    REFUSED = "refused"
    DEAD = "dead"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class BranchEvent(StrEnum):
    """What moves a branch."""

    TRY_DONE = "try done"
    TRY_REFUSED = "try refused"
    CONFIRM_ACKED = "confirm acknowledged"
    CANCEL_ACKED = "cancel acknowledged"
    SPENT = "attempts used up"
    RETRY = "operator: retry"


class Outcome(StrEnum):
    """What may be told about a transaction; an outcome that was told never changes, save for IN_DOUBT."""

    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in doubt"


TRANSACTION: Mapping[Event, tuple[frozenset[State], State]] = {
    Event.DECIDE_CONFIRM: (frozenset({State.TRYING}), State.CONFIRMING),
    Event.DECIDE_CANCEL: (frozenset({State.TRYING}), State.CANCELLING),
    Event.ALL_CONFIRMED: (frozenset({State.CONFIRMING}), State.CONFIRMED),
    Event.ALL_CANCELLED: (frozenset({State.CANCELLING}), State.CANCELLED),
}

_UNENDED = frozenset({BranchState.LOGGED, BranchState.TRIED, BranchState.REFUSED, BranchState.DEAD})

BRANCH: Mapping[BranchEvent, tuple[frozenset[BranchState], BranchState]] = {
    BranchEvent.TRY_DONE: (frozenset({BranchState.LOGGED}), BranchState.TRIED),
    BranchEvent.TRY_REFUSED: (frozenset({BranchState.LOGGED}), BranchState.REFUSED),
    # a refusal dooms its transaction, so a branch that refused is never asked to confirm
    BranchEvent.CONFIRM_ACKED: (_UNENDED - {BranchState.REFUSED}, BranchState.CONFIRMED),
    BranchEvent.CANCEL_ACKED: (_UNENDED, BranchState.CANCELLED),
    BranchEvent.SPENT: (_UNENDED - {BranchState.DEAD}, BranchState.DEAD),
    BranchEvent.RETRY: (frozenset({BranchState.DEAD}), BranchState.LOGGED),
}

OPEN = frozenset({State.TRYING, State.CONFIRMING, State.CANCELLING})
"""States in which something is still to be done."""


def sources(event: Event | BranchEvent) -> list[str]:
    """Return, sorted, the states from which `event` may happen."""
    found = TRANSACTION[event][0] if isinstance(event, Event) else BRANCH[event][0]
    return sorted(state.value for state in found)


def outcome(state: State) -> Outcome:
    """Return what may be told about a transaction in `state`: a decision is final before it is carried out."""
    if state in (State.CONFIRMING, State.CONFIRMED):
        return Outcome.CONFIRMED
    if state in (State.CANCELLING, State.CANCELLED):
        return Outcome.CANCELLED
    return Outcome.IN_DOUBT


def draw(
    table: Mapping[Event, tuple[frozenset[State], State]]
    | Mapping[BranchEvent, tuple[frozenset[BranchState], BranchState]],
) -> str:
    """Return a Mermaid diagram of a transition table, for the documentation."""
    arrows: list[str] = []
    reached: set[str] = set()
    left: set[str] = set()
    for event, (origins, target) in table.items():
        reached.add(target.value)
        left.update(origin.value for origin in origins)
        arrows.extend(f"    {origin.value} --> {target.value}: {event.value}" for origin in sorted(origins))
    starts = [f"    [*] --> {state}" for state in ("trying", "logged") if state in left]
    ends = [f"    {state} --> [*]" for state in sorted(reached - left)]
    return "\n".join(["stateDiagram-v2", *starts, *arrows, *ends])
