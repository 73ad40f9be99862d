"""A latch as a value: a count that only goes down, and the rounds that it has had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Any

from backstay.errors import Misuse
from backstay.locks.register import Next

__all__ = ["MARKS", "LatchForm", "LatchState", "count_down", "reset"]

MARKS = 2000
"""Marks that one round remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchState:
    """Where a latch stands.

    Args:
        count: what each round begins with.
        left: what is still to come; the latch is open at 0.
        round: how often it was reset.
        opened: the latest round that opened, -1 where none did.
        marks: what was counted by name in this round.
    """

    count: int
    left: int
    round: int = 0
    opened: int = -1
    marks: tuple[str, ...] = ()

    def lets_pass(self, began: int) -> bool:
        """Return whether one who began to wait in round `began` may go on."""
        return self.opened >= began


class LatchForm:
    """A latch as JSON."""

    def load(self, body: Mapping[str, Any]) -> LatchState:
        return LatchState(
            count=body["count"],
            left=body["left"],
            round=body["round"],
            opened=body["opened"],
            marks=tuple(body["marks"]),
        )

    def dump(self, state: LatchState) -> dict[str, Any]:
        return {
            "count": state.count,
            "left": state.left,
            "round": state.round,
            "opened": state.opened,
            "marks": state.marks,
        }


def agreed(state: LatchState | None, count: int, name: str) -> LatchState:
    """Return the state, a new one where there is none.

    Raises:
        Misuse: it counts from another number than the caller says.
    """
    if state is None:
        return LatchState(count=count, left=count)
    if state.count != count:
        raise Misuse(
            f"latch {name!r} counts from {state.count} at the store, and this caller says {count}; "
            f"say {state.count}, or change it for everybody with reset({count})"
        )
    return state


def count_down(state: LatchState | None, count: int, name: str, n: int, mark: str | None) -> Next[LatchState, int]:
    """Count down by `n`, never below 0, and once only for a mark; the answer is what is left."""
    now = agreed(state, count, name)
    marks = now.marks
    if mark is not None:
        short = blake2s(mark.encode(), digest_size=8).hexdigest()
        if short in marks:
            return Next(now.left)
        if len(marks) >= MARKS:
            raise Misuse(f"latch {name!r} remembers at most {MARKS} marks in a round; count the rest without one")
        marks = (*marks, short)
    if not now.left:
        return Next(0)
    left = max(0, now.left - n)
    return Next(left, replace(now, left=left, marks=marks, opened=now.opened if left else now.round))


def reset(state: LatchState | None, count: int) -> Next[LatchState, None]:
    """Begin a new round; those who wait for one that did not open wait for this one."""
    if state is None:
        return Next(None, LatchState(count=count, left=count))
    return Next(None, LatchState(count=count, left=count, round=state.round + 1, opened=state.opened))
