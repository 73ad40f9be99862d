"""A chain's settings fitted to a function: mistakes are raised when the module is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from backstay.errors import Misuse

from ..fallback import CacheSettings, FallbackSettings
from ..fallback.cover import Fitted
from ..policy import Target
from .reading import Reading
from .settings import ReadSettings, StaticTier

__all__ = ["checked_key", "key_of_target", "reading_of", "settings_of"]

_KeyOf: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], str]


def reading_of(static: StaticTier, keys: CacheSettings, call: Any, target: Target) -> Reading:
    """Return `call` as a chain reads it.

    Raises:
        Misuse: the static answer does not fit the target.
    """
    fitted = _fitted(static, keys, target)
    return Reading(function=call, static=fitted.answer, awaited=fitted.awaited, source=static.source)


def key_of_target(static: StaticTier, keys: CacheSettings, target: Target) -> _KeyOf:
    """Return what makes keys of a call's arguments.

    Raises:
        Misuse: the template names no parameter of the target, or there is none although it takes arguments.
    """
    make = _fitted(static, keys, target).key
    assert make is not None  # there are settings of a key
    return (lambda args, kwargs: checked_key(make(args, kwargs))) if callable(keys.key) else make


def checked_key(key: Any) -> str:
    """Return a key, or raise Misuse where it is no text."""
    if not isinstance(key, str):
        raise Misuse(f"a key is a text such as 'product:7', got {key!r:.100}")
    return key


def settings_of(name: str, settings: ReadSettings | None, single: Mapping[str, Any]) -> ReadSettings:
    """Return the settings that were given at once or one by one.

    Raises:
        Misuse: both, or something else.
    """
    told = {option: value for option, value in single.items() if value is not None}
    if settings is None:
        return ReadSettings(**told)
    given: Any = settings
    if told or not isinstance(given, ReadSettings):
        raise Misuse(f"read chain {name!r}: give settings=ReadSettings(...) or the single options, not both")
    return settings


def _fitted(static: StaticTier, keys: CacheSettings, target: Target) -> Fitted:
    return Fitted.to(target, FallbackSettings(answer=static.answer, cached=keys))
