"""The barrier's truth table: what a participant does with each request in each state (section 3.2.2).

Pure, and the only place where this is decided; `steps` turns table rows into states and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ..values import Phase

__all__ = ["TRUTH", "Standing", "Verdict", "draw", "verdict"]


class Standing(StrEnum):
    """How far one branch has come at its participant."""

    NOTHING = "nothing"
    TRIED = "tried"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    SUSPENDED = "suspended"  # the cancel came first: the try that may still come must not run


class Verdict(StrEnum):
    """What to do with a request."""

    RUN = "run"
    REPEAT = "ok, no effect"
    NULL = "ok, null cancel"
    REFUSE = "refuse"
    ALARM = "error, alert"


TRUTH: Mapping[Phase, Mapping[Standing, Verdict]] = {
    Phase.TRY: {
        Standing.NOTHING: Verdict.RUN,
        Standing.TRIED: Verdict.REPEAT,
        Standing.CONFIRMED: Verdict.REPEAT,
        Standing.CANCELLED: Verdict.REFUSE,
        Standing.SUSPENDED: Verdict.REFUSE,
    },
    Phase.CONFIRM: {
        Standing.NOTHING: Verdict.ALARM,
        Standing.TRIED: Verdict.RUN,
        Standing.CONFIRMED: Verdict.REPEAT,
        Standing.CANCELLED: Verdict.ALARM,
        Standing.SUSPENDED: Verdict.ALARM,
    },
    Phase.CANCEL: {
        Standing.NOTHING: Verdict.NULL,
        Standing.TRIED: Verdict.RUN,
        Standing.CONFIRMED: Verdict.ALARM,
        Standing.CANCELLED: Verdict.REPEAT,
        Standing.SUSPENDED: Verdict.REPEAT,
    },
}


def verdict(phase: Phase, standing: Standing) -> Verdict:
    """Return what a participant does with a request of `phase` when the branch stands at `standing`."""
    return TRUTH[phase][standing]


def draw() -> str:
    """Return the truth table as a Markdown table, for the documentation."""
    lines = [
        "| incoming | " + " | ".join(Standing) + " |",
        "|---" * (len(Standing) + 1) + "|",
    ]
    for phase, row in TRUTH.items():
        lines.append(f"| {phase} | " + " | ".join(row[standing] for standing in Standing) + " |")
    return "\n".join(lines)
