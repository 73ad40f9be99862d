"""The terms of a lock, checked before anything is sent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypedDict

from backstay.errors import Misuse

__all__ = ["Duration", "Options", "Terms", "changed", "checked_answer_within", "checked_name", "checked_namespace",
           "checked_size", "seconds", "terms", "waiting_less"]  # fmt: skip

Duration = float | timedelta

LONGEST = 30 * 86400.0  # s; a lease for longer than a month is a mistake in the unit
NAME_LIMIT = 512


class Options(TypedDict, total=False):
    """How a lock is taken: what every recipe understands, with the same defaults.

    * `ttl`: seconds after which it comes free when its holder dies, and within which a holder that is cut off is
      told so; default 10.
    * `wait`: seconds to wait for it; 0 tries once, None waits for ever; default 5.
    * `renew`: renew it every ttl/3 while it is held; default True.
    * `raise_on_loss`: leaving a `with` block after a loss raises `LockLost`; default True.
    * `max_hold`: seconds after which it is renewed no more and its loss announced; default None, no limit.
    * `cancel_on_loss`: in asyncio, the task that runs the block is cancelled at a loss; default False.
    """

    ttl: Duration
    wait: Duration | None
    renew: bool
    raise_on_loss: bool
    max_hold: Duration | None
    cancel_on_loss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a lock is taken.

    Args:
        ttl: seconds that the lock outlives its last renewal, above 0 and at most 30 days.
        wait: seconds to wait for it; 0 tries once, infinity waits for ever.
        renew: whether it is renewed while it is held.
        raise_on_loss: whether leaving a `with` block after a loss raises `LockLost`.
        max_hold: seconds after which its loss is announced whatever the store says; infinity for never.
        cancel_on_loss: whether the task that runs the block is cancelled at a loss.
    """

    ttl: float
    wait: float
    renew: bool
    raise_on_loss: bool
    max_hold: float = math.inf
    cancel_on_loss: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.ttl <= LONGEST:
            raise Misuse(f"ttl must be > 0 s and at most 30 days, got {self.ttl:g}; 10 is a good start")
        if not self.wait >= 0.0:
            raise Misuse(f"wait must be >= 0 s, got {self.wait:g}; 0 tries once, None waits for ever")
        if not self.max_hold > 0.0:
            raise Misuse(f"max_hold must be > 0 s, got {self.max_hold:g}; None holds as long as it is renewed")


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
def terms(
    ttl: Duration | None = 10.0,
    wait: Duration | None = 5.0,
    renew: bool = True,
    raise_on_loss: bool = True,
    max_hold: Duration | None = None,
    cancel_on_loss: bool = False,
) -> Terms:
    """Return checked terms; `wait=None` waits for ever."""
    if ttl is None:
        raise Misuse("ttl=None would leave the lock behind for ever when its holder dies; give seconds, such as 10")
    return Terms(
        ttl=seconds(ttl, "ttl"),
        wait=math.inf if wait is None else seconds(wait, "wait"),
        renew=renew,
        raise_on_loss=raise_on_loss,
        max_hold=math.inf if max_hold is None else seconds(max_hold, "max_hold"),
        cancel_on_loss=cancel_on_loss,
    )


def changed(agreed: Terms, options: Options) -> Terms:
    """Return the terms with some of them changed."""
    if not options:
        return agreed
    fresh = terms(**options)
    return replace(agreed, **{name: getattr(fresh, name) for name in options})


def waiting_less(agreed: Terms, wait: float) -> Terms:
    """Return the terms with what is left of the wait."""
    return replace(agreed, wait=max(0.0, wait))


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


def checked_size(value: int, what: str, most: int) -> int:
    """Return `value` if it is a number from 1 to `most`.

    Raises:
        Misuse: it is not.
    """
    given: Any = value
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        raise Misuse(f"{what} must be a number from 1 to {most}, got {given!r}")
    return value
