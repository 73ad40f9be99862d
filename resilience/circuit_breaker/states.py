"""The states of a circuit breaker and every way from one to another, in one table (CB-7).

The diagram of the documentation is drawn from this table. What is not in it does not happen: a threshold that
is reached while only metrics are kept, or a wait that is over after an operator forced the breaker open.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

__all__ = ["MANUAL", "TABLE", "Cause", "State", "diagram"]


class State(Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    """Lets them through and watches how they end."""
    OPEN = "open"
    """Refuses them until a wait is over."""
    HALF_OPEN = "half_open"
    """Lets a few through as probes and refuses the others."""
    FORCED_OPEN = "forced_open"
    """Refuses them until somebody closes it."""
    DISABLED = "disabled"
    """Lets them through and watches nothing."""
    METRICS_ONLY = "metrics_only"
    """Lets them through and watches them, and never opens."""


class Cause(Enum):
    """Why a breaker changed its state."""

    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    CONSECUTIVE = "consecutive"
    WAIT_OVER = "wait_over"
    PROBES_PASSED = "probes_passed"
    PROBES_FAILED = "probes_failed"
    QUORUM_OPENED = "quorum_opened"
    QUORUM_ENDED = "quorum_ended"
    MANUAL_OPEN = "manual_open"
    MANUAL_HALF_OPEN = "manual_half_open"
    MANUAL_CLOSE = "manual_close"
    MANUAL_FORCE_OPEN = "manual_force_open"
    MANUAL_DISABLE = "manual_disable"
    MANUAL_METRICS_ONLY = "manual_metrics_only"


MANUAL: Final[Mapping[Cause, State]] = {
    Cause.MANUAL_OPEN: State.OPEN,
    Cause.MANUAL_HALF_OPEN: State.HALF_OPEN,
    Cause.MANUAL_CLOSE: State.CLOSED,
    Cause.MANUAL_FORCE_OPEN: State.FORCED_OPEN,
    Cause.MANUAL_DISABLE: State.DISABLED,
    Cause.MANUAL_METRICS_ONLY: State.METRICS_ONLY,
}
"""What an operator can do in any state."""

_AUTOMATIC: Final[Mapping[State, Mapping[Cause, State]]] = {
    State.CLOSED: {
        Cause.FAILURE_RATE: State.OPEN,
        Cause.SLOW_RATE: State.OPEN,
        Cause.CONSECUTIVE: State.OPEN,
        Cause.QUORUM_OPENED: State.OPEN,
    },
    State.OPEN: {
        Cause.WAIT_OVER: State.HALF_OPEN,
        Cause.QUORUM_ENDED: State.CLOSED,
    },
    State.HALF_OPEN: {
        Cause.PROBES_PASSED: State.CLOSED,
        Cause.PROBES_FAILED: State.OPEN,
    },
}

TABLE: Final[Mapping[State, Mapping[Cause, State]]] = {
    state: {**_AUTOMATIC.get(state, {}), **MANUAL} for state in State
}
"""From a state and a cause to the next state."""


def diagram() -> str:
    """Return the table as a Mermaid state diagram; what an operator can do from anywhere is drawn once."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    for state, ways in _AUTOMATIC.items():
        for after in dict.fromkeys(ways.values()):
            causes = ", ".join(cause.value for cause, to in ways.items() if to is after)
            lines.append(f"    {state.value} --> {after.value}: {causes}")
    lines.append("    state any <<choice>>")
    lines += [f"    any --> {after.value}: {cause.value}" for cause, after in MANUAL.items()]
    return "\n".join(lines)
