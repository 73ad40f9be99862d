"""The level machine: from readings of signals to a level, with hysteresis (DG-1, DG-2). Pure: `now` is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .settings import LevelSettings
from .words import Level

__all__ = ["SIGNALS", "Machine", "Moved", "Reading", "diagram"]

SIGNALS = ("dependency", "errors", "timeouts", "failures", "breakers", "saturation", "limited")
"""All signals; of several that ask for one level the first is named as the cause."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one signal says now.

    Attributes:
        value: share, count or state; None where nothing is known.
        firm: whether there is enough behind it to raise a level.
    """

    value: float | None
    firm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The machine went from one level to another.

    Attributes:
        before: the level that it left.
        after: the level that it is at.
        cause: the signal that raised it, or `recovered`.
    """

    before: Level
    after: Level
    cause: str


class Machine:
    """One resource's automatic level. Up may skip levels, down goes one at a time.

    Not safe for threads by itself: the caller holds a lock.
    """

    __slots__ = ("_asked", "_below", "_since", "level", "raised_by", "settings")

    def __init__(self, settings: LevelSettings) -> None:
        self.settings = settings
        self.level = Level.NORMAL
        self.raised_by = ""
        self._since = float("-inf")
        self._asked: list[tuple[Level, str]] = []
        self._below: float | None = None

    def step(self, readings: Mapping[str, Reading], now: float) -> Moved | None:
        """Evaluate once; return the move, if there is one."""
        asked, cause = self._entered(readings)
        if asked > self.level:
            self._below = None
            self._asked.append((asked, cause))
            if len(self._asked) < self.settings.confirm:
                return None
            asked, cause = min(self._asked)  # what every one of these evaluations asked for
            return self._move(asked, cause, now)
        self._asked.clear()
        if self._kept(readings) >= self.level:
            self._below = None
            return None
        if self._below is None:
            self._below = now
        if now - self._below < self.settings.hold or now - self._since < self.settings.dwell:
            return None
        return self._move(Level(self.level - 1), "recovered", now)

    def _move(self, after: Level, cause: str, now: float) -> Moved:
        before, self.level, self._since = self.level, after, now
        self._asked.clear()
        self._below = None if after > before else now
        if after > before:
            self.raised_by = cause
        return Moved(before=before, after=after, cause=cause)

    def _entered(self, readings: Mapping[str, Reading]) -> tuple[Level, str]:
        best, cause = Level.NORMAL, ""
        for signal in SIGNALS:
            reading = readings.get(signal)
            if reading is None or reading.value is None or not reading.firm:
                continue
            level = self.settings.bands(signal).entered(reading.value)
            if level > best:
                best, cause = level, signal
        return best, cause

    def _kept(self, readings: Mapping[str, Reading]) -> Level:
        best = Level.NORMAL
        for signal in SIGNALS:
            reading = readings.get(signal)
            value = None if reading is None else reading.value
            if value is not None:
                best = max(best, self.settings.bands(signal).kept(value))
            elif signal == self.raised_by:  # silence is no recovery
                return self.level
        return best


def diagram() -> str:
    """Return the machine as a Mermaid state diagram, drawn by asking a machine for each move."""
    lines = ["stateDiagram-v2", "    [*] --> normal"]
    settings = LevelSettings(confirm=1, hold=0, dwell=0)
    for before in Level:
        for after in Level:
            machine = Machine(settings)
            machine.level = before
            if after > before:
                enter: float = getattr(settings.errors, after.word)
                moved = machine.step({"errors": Reading(enter)}, 0.0)
                label = f"errors >= {enter:.0%}"
            else:
                moved = machine.step({"errors": Reading(0.0)}, 0.0)
                left = getattr(settings.errors, before.word, None)
                label = "" if left is None else f"errors < {left * settings.errors.exit:.0%}"
            if moved is not None and moved.after is after:
                lines.append(f"    {before.word} --> {after.word}: {label}")
    return "\n".join(lines)
