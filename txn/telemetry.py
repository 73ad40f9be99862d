"""What the transaction package measures."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import counter, histogram, level

from .values import Answer, Phase

__all__ = ["Measures"]


class Measures:
    """Instruments of one coordinator, made once.

    Attributes:
        begun: transactions started. confirmed, cancelled: decisions of blocks.
        lost: blocks that wanted to confirm and could not, because others had cancelled.
        recovered: transactions that recovery decided or went on with.
        alarms: answers that no correct system gives. dead: branches that used up their attempts.
        trouble: failures of background work, each of them logged.
    """

    def __init__(self, active: Callable[[], float], *, model: str = "tcc") -> None:
        self.begun = counter("txn.begun", "{transaction}", policy=model)
        self.confirmed = counter("txn.decisions", "{transaction}", policy=model, result="confirmed")
        self.cancelled = counter("txn.decisions", "{transaction}", policy=model, result="cancelled")
        self.lost = counter("txn.decisions", "{transaction}", policy=model, result="lost")
        self.recovered = counter("txn.recovered", "{transaction}", policy=model)
        self.alarms = counter("txn.alarms", "{alarm}", policy=model)
        self.dead = counter("txn.dead", "{branch}", policy=model)
        self.trouble = counter("txn.trouble", "{failure}", policy=model)
        self.duration = histogram("txn.duration", "s", policy=model)
        self.requests = {
            (phase, answer): counter(
                "txn.branch.requests", "{request}", policy=model, phase=phase.value, result=answer.value
            )
            for phase in Phase
            for answer in Answer
        }
        self.latency = {
            phase: histogram("txn.branch.duration", "s", policy=model, phase=phase.value) for phase in Phase
        }
        self._active = level("txn.active", "{transaction}", active, policy=model)
