"""What a fallback may be told, in code or in a document, and change while it runs."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from backstay import errors
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Rejected, Unavailable
from backstay.keys import Template

from ..policy import from_mapping, positive_int, seconds

__all__ = ["NOTHING", "CacheSettings", "FallbackSettings"]

NOTHING: Final[Any] = object()
"""Stands for an answer that was not given; None is one like any other."""

_NAMED = {name: getattr(errors, name) for name in errors.__all__} | {
    name: getattr(builtins, name) for name in ("ConnectionError", "Exception", "OSError", "TimeoutError")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What is kept of good answers.

    Attributes:
        max_stale: seconds after which an answer is too old to be served; no default, because only the caller
            knows how old a lie may be.
        max_entries: how many keys are kept; beyond it the one that has been there longest goes.
        key: whose answer it is: a template such as `product:{product_id}`, or a function of the call's arguments
            that returns a text. May be left out only where the function takes no arguments.
        present: makes what is served from (answer, age in seconds), where callers must see how old it is.
    """

    max_stale: float
    max_entries: int = 1024
    key: str | Callable[..., str] | None = None
    present: Callable[[Any, float], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_stale", seconds(self.max_stale, "max_stale"))
        positive_int(self.max_entries, "max_entries")
        if isinstance(self.key, str):
            Template(self.key)
        elif self.key is not None and not callable(self.key):
            raise Misuse(f"key must be a template, a function or None, got {self.key!r}")
        if self.present is not None and not callable(self.present):
            raise Misuse(f"present must be a function of (answer, age), got {self.present!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSettings:
    """When something else answers, and what.

    Attributes:
        answer: a value; or a function that takes the arguments of the call, and `refusal=` if it has such a
            parameter. An `async def` only for an `async def`. With `cached`, it answers what is not kept.
        on: the errors that are answered: classes, or names such as `"RateLimited"` or `"ConnectionError"`.
        read_only: the call changes nothing, so that an unknown outcome may be answered as well. Implied by
            `cached`.
        cached: keep the last good answers, and serve them first.
    """

    answer: Any = NOTHING
    on: tuple[type[Exception], ...] = (Rejected, Unavailable)
    read_only: bool = False
    cached: CacheSettings | None = None

    def __post_init__(self) -> None:
        given: Any = self.cached
        if isinstance(given, Mapping):
            document = cast("Mapping[str, Any]", given)
            object.__setattr__(self, "cached", from_mapping(CacheSettings, document, "cached"))
        elif not (given is None or isinstance(given, CacheSettings)):
            raise Misuse(f"cached must be CacheSettings or a mapping such as {{'max_stale': 60}}, got {given!r}")
        if self.answer is NOTHING and self.cached is None:
            raise Misuse("a fallback needs an answer, or cached={'max_stale': ...} to serve the last good one")
        if type(self.read_only) is not bool:
            raise Misuse(f"read_only must be True or False, got {self.read_only!r}")
        if self.cached is not None:
            object.__setattr__(self, "read_only", True)
        object.__setattr__(self, "on", tuple(_error(each, self.read_only) for each in _several(self.on)))

    @property
    def expected(self) -> tuple[type[Exception], ...]:
        """The errors that are answered, an unknown outcome among them where nothing can have been changed."""
        return (*self.on, OutcomeUnknown) if self.read_only else self.on

    def covers(self, error: Exception) -> bool:
        """Return whether this error is answered. `Misuse` never is: it needs a programmer, not an answer."""
        if isinstance(error, Misuse) or not isinstance(error, self.expected):
            return False
        return self.read_only or not isinstance(error, OutcomeUnknown)

    @classmethod
    def of(cls, value: Any) -> FallbackSettings:
        """Return settings as they are, from a document's mapping, or for any other value as the answer.

        A mapping is always read as settings, so that a misspelt name is found. To serve a mapping, write
        `{"answer": {...}}`.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "fallback")
        return cls(answer=value)


def _several(given: Any) -> tuple[Any, ...]:
    if isinstance(given, tuple | list):
        return tuple(cast("list[Any]", given))
    return (given,)


def _error(given: Any, read_only: bool) -> type[Exception]:
    if isinstance(given, str):
        if given not in _NAMED:
            raise Misuse(f"on names no error {given!r}; known: {', '.join(sorted(_NAMED))}")
        given = _NAMED[given]
    if not (isinstance(given, type) and issubclass(given, Exception)):
        raise Misuse(f"on (fallback_on) takes exception classes; cancellation and exit pass, got {given!r}")
    doubtful = issubclass(OutcomeUnknown, given) and given not in (Exception, BackstayError)
    if (doubtful or issubclass(given, OutcomeUnknown)) and not read_only:
        raise Misuse(
            f"on (fallback_on) must not name {given.__name__}, an OutcomeUnknown: the call may have taken effect; "
            "say read_only=True if it changes nothing"
        )
    return given
