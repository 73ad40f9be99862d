"""What becomes of a bucket when its rate changes (RL-11). Pure, and exact but for the last microsecond."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from backstay.errors import Misuse

from .rate import Rate

__all__ = ["Carry", "Line", "carry_of", "line"]

Carry: TypeAlias = Literal["proportional", "absolute", "reset"]
"""`proportional`: as full as it was, in parts of the burst. `absolute`: as many tokens as it had, at most the new
burst. `reset`: full."""


class Line:
    """How the time until a bucket is full under one rate becomes that under another.

    A full bucket stays full, since a full one is not kept and cannot be told from one that never was. What is
    between two microseconds is rounded up: that is later full, so that nothing is minted.
    """

    __slots__ = ("_add", "_divide", "_multiply")

    def __init__(self, multiply: int, add: int, divide: int) -> None:
        self._multiply, self._add, self._divide = multiply, add, divide

    def __call__(self, missing: int) -> int:
        """Return microseconds until full under the new rate; `missing` is in units of the old one."""
        if missing <= 0:
            return 0
        return max(0, -(-(missing * self._multiply + self._add) // self._divide))


def carry_of(value: object) -> Carry:
    """Return `value` if it is a way of carrying tokens.

    Raises:
        Misuse: it is none.
    """
    for known in get_args(Carry):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    raise Misuse(f"carry must be 'proportional', 'absolute' or 'reset', got {value!r}")


def line(old: Rate, new: Rate, carry: Carry, units: int) -> Line:
    """Return how times become others.

    Args:
        old: the rate under which the bucket was kept.
        new: the one under which it will be.
        carry: see `Carry`.
        units: how many units of the old time are a microsecond.
    """
    if carry == "reset":
        return Line(0, 0, 1)
    if carry == "proportional":
        return Line(new.capacity * new.period_us * old.count, 0, units * new.count * old.capacity * old.period_us)
    gained = (new.capacity - old.capacity) * old.period_us * units * new.period_us
    return Line(old.count * new.period_us, gained, old.period_us * units * new.count)
