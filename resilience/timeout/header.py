"""The deadline on its way to the next service: what remains, in whole milliseconds, in one header.

A duration is sent, never a time of day, so that no two clocks have to agree; the way there is not deducted.
"""

from __future__ import annotations

from collections.abc import Mapping

from backstay.clock import Clock, monotonic

from .deadline import remaining

__all__ = ["DEADLINE_HEADER", "deadline_header", "read_deadline"]

DEADLINE_HEADER = "backstay-deadline-ms"
"""Name of the header, lowercase as ASGI has it."""

_DIGITS = 12


def deadline_header(*, clock: Clock = monotonic) -> dict[str, str]:
    """Return the header to send with a call, empty where there is no deadline; rounded down."""
    left = remaining(clock=clock)
    return {} if left is None else {DEADLINE_HEADER: str(int(left * 1000))}


def read_deadline(headers: Mapping[str, str], *, longest: float = 3600.0) -> float | None:
    """Return the seconds that the caller has left, for `with deadline(seconds)`, or None where he does not say.

    A caller is a stranger: what is no plain number is ignored, and more than `longest` seconds counts as that.

    Args:
        headers: of the request; lowercase names, or a mapping that does not care.
        longest: seconds.
    """
    text = headers.get(DEADLINE_HEADER, "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        return None
    return min(int(text) / 1000, longest)
