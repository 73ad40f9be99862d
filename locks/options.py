"""The terms of a lock, checked before anything is sent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from backstay.errors import Misuse

__all__ = ["Duration", "Terms", "checked_answer_within", "checked_name", "checked_namespace", "seconds", "terms"]

Duration = float | timedelta

LONGEST = 30 * 86400.0  # s; a lease for longer than a month is a mistake in the unit
NAME_LIMIT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a lock is taken.

    Args:
        ttl: seconds that the lock outlives its last renewal, above 0 and at most 30 days.
        wait: seconds to wait for it; 0 tries once, infinity waits for ever.
        renew: whether it is renewed while it is held.
        raise_on_loss: whether leaving a `with` block after a loss raises `LockLost`.
    """

    ttl: float
    wait: float
    renew: bool
    raise_on_loss: bool

    def __post_init__(self) -> None:
        if not 0.0 < self.ttl <= LONGEST:
            raise Misuse(f"ttl must be > 0 s and at most 30 days, got {self.ttl:g}; 10 is a good start")
        if not self.wait >= 0.0:
            raise Misuse(f"wait must be >= 0 s, got {self.wait:g}; 0 tries once, None waits for ever")


def seconds(value: Duration, what: str) -> float:
    """Return a duration as seconds.

    Raises:
        Misuse: it is no number and no timedelta; a bool is neither.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    given: Any = value  # callers may be untyped
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise Misuse(f"{what} must be seconds or a timedelta, got {type(given).__name__}")
    return float(given)


@lru_cache(maxsize=256, typed=True)  # a lock is made anew for each use; its terms are few
def terms(ttl: Duration | None, wait: Duration | None, renew: bool, raise_on_loss: bool) -> Terms:
    """Return checked terms; `wait=None` waits for ever."""
    if ttl is None:
        raise Misuse("ttl=None would leave the lock behind for ever when its holder dies; give seconds, such as 10")
    return Terms(
        ttl=seconds(ttl, "ttl"),
        wait=math.inf if wait is None else seconds(wait, "wait"),
        renew=renew,
        raise_on_loss=raise_on_loss,
    )


def checked_name(name: str) -> str:
    """Return `name` if a lock can have it.

    Raises:
        Misuse: it is no text, empty, longer than 512 characters, or has halves of surrogate pairs.
    """
    given: Any = name
    if not isinstance(given, str) or not given:
        raise Misuse(f"the name of a lock is a text such as 'order:42', got {given!r}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise Misuse(f"the name of a lock must be text that UTF-8 can carry, got {name!r}") from None
    if len(name) > NAME_LIMIT:
        raise Misuse(f"the name of a lock has at most {NAME_LIMIT} characters, got {len(name)}: {name[:40]!r}...")
    return name


def checked_namespace(text: str) -> str:
    """Return `text` if it can be a namespace.

    Raises:
        Misuse: it is empty, longer than 64 characters, or has others than letters, digits, `.`, `_`, `-`.
    """
    given: Any = text
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9._\-]{1,64}", given):
        raise Misuse(f"namespace {given!r}: use 1 to 64 letters, digits, '.', '_' or '-', such as 'shop'")
    return text


def checked_answer_within(value: Duration | None) -> float | None:
    """Return the limit of one exchange in seconds, None where the default is wanted.

    Raises:
        Misuse: it is not above 0, or above a minute.
    """
    limit = None if value is None else seconds(value, "answer_within")
    if limit is not None and not 0.0 < limit <= 60.0:
        raise Misuse(f"answer_within must be > 0 s and at most 60 s, got {limit:g}")
    return limit
