"""A fallback as it is fitted to one function: what it answers with, and what it keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backstay.clock import Clock
from backstay.errors import Misuse
from backstay.keys import Template

from ..policy import Call, Target
from .cache import LastGood
from .fit import wants_refusal
from .settings import NOTHING, CacheSettings, FallbackSettings
from .telemetry import Answers, refused_by

__all__ = ["Cover", "Fitted"]

_Key = Callable[[tuple[Any, ...], Mapping[str, Any]], str]
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Settings fitted to a function. Replaced as a whole, so that no call sees half of a change."""

    settings: FallbackSettings
    answer: Call | None
    awaited: bool
    key: _Key | None

    @classmethod
    def to(cls, target: Target, settings: FallbackSettings) -> Fitted:
        """Fit settings to a function.

        Raises:
            Misuse: the answer does not take the target's arguments, or is `async def` for a plain function; or
                kept answers have no key although the target takes arguments.
        """
        answer, awaited = _answer(settings.answer, target)
        key = None if settings.cached is None else _key(settings.cached, target)
        return cls(settings=settings, answer=answer, awaited=awaited, key=key)


class Cover:
    """One function's fallback: the fitted settings of now, and the last good answers, which outlive them."""

    __slots__ = ("__weakref__", "_answers", "_clock", "_kept", "fitted", "target")

    def __init__(self, target: Target, settings: FallbackSettings, answers: Answers, clock: Clock) -> None:
        self.target = target
        self.fitted = Fitted.to(target, settings)
        self._answers = answers
        self._clock = clock
        self._kept = LastGood(settings.cached.max_entries if settings.cached is not None else 1)

    def refit(self, fitted: Fitted) -> None:
        """Go on with other settings; answers that are kept stay."""
        if fitted.settings.cached is not None:
            self._kept.resize(fitted.settings.cached.max_entries)
        self.fitted = fitted

    def begin(self, key: _Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, float]:
        """Return what a good answer is to be kept under: its key, and the time before the call."""
        return key(args, kwargs), self._clock()

    def keep(self, under: tuple[str, float], answer: Any) -> None:
        """Keep a good answer. None is one like any other: "there is none" is newer than what was there before."""
        self._answers.origin.n += 1
        self._kept.keep(under[0], answer, under[1])

    def serve(
        self, refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any], fitted: Fitted | None = None
    ) -> Any:
        """Return an answer for a call that was refused, by the settings that it began with.

        Raises:
            the refusal: nothing is kept and there is no other answer. What making the answer raises carries it
                as its cause.
        """
        fitted = fitted or self.fitted
        word = refused_by(refusal)
        try:
            answer = self._last(fitted, args, kwargs)
            if answer is _ABSENT:
                answer = self._other(fitted, word, refusal, args, kwargs)
        except Exception as error:
            self._note(error, refusal, word)
            raise
        self._answers.served[word].n += 1
        return answer

    async def serve_async(
        self, refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any], fitted: Fitted | None = None
    ) -> Any:
        """Return an answer for a call that was refused, as `serve` does; an async one is awaited."""
        fitted = fitted or self.fitted
        word = refused_by(refusal)
        try:
            answer = self._last(fitted, args, kwargs)
            if answer is _ABSENT:
                answer = self._other(fitted, word, refusal, args, kwargs)
                if fitted.awaited:
                    answer = await answer
        except Exception as error:
            self._note(error, refusal, word)
            raise
        self._answers.served[word].n += 1
        return answer

    def _last(self, fitted: Fitted, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cached = fitted.settings.cached
        if fitted.key is None or cached is None:
            return _ABSENT
        found = self._kept.last(fitted.key(args, kwargs))
        age = 0.0 if found is None else max(0.0, self._clock() - found[1])
        if found is None or age > cached.max_stale:
            where = self._answers.miss if fitted.answer is None else self._answers.static
            where.n += 1
            return _ABSENT
        self._answers.cached.n += 1
        self._answers.age.record(age)
        return found[0] if cached.present is None else cached.present(found[0], age)

    def _other(self, fitted: Fitted, word: str, refusal: Exception, args: Any, kwargs: Any) -> Any:
        if fitted.answer is None:
            self._answers.absent[word].n += 1
            raise refusal
        return fitted.answer(refusal, args, kwargs)

    def _note(self, error: Exception, refusal: Exception, word: str) -> None:
        if error is refusal:
            return
        self._answers.failed[word].n += 1
        if error.__cause__ is None:
            error.__cause__ = refusal


def _answer(given: Any, target: Target) -> tuple[Call | None, bool]:
    if given is NOTHING:
        return None, False
    if not callable(given):

        def value(refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return given

        return value, False
    call: Call = given
    is_async = any(inspect.iscoroutinefunction(each) for each in (call, type(call).__call__))
    label: str = getattr(call, "__qualname__", type(call).__qualname__)
    if is_async and not target.is_async:
        raise Misuse(f"fallback {label}() is async def, but {target.label}() is not: nobody would await it")
    wants = wants_refusal(call, label, target)

    def answered(refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call(*args, **kwargs, refusal=refusal) if wants else call(*args, **kwargs)

    return answered, is_async


def _key(cached: CacheSettings, target: Target) -> _Key:
    given = cached.key
    if isinstance(given, str):
        return Template(given).bind(target.function)
    if given is not None:
        make = given
        return lambda args, kwargs: make(*args, **kwargs)
    if inspect.signature(target.function).parameters:
        raise Misuse(
            f"{target.label}() takes arguments: say whose answer is kept, as in key='product:{{product_id}}'; "
            "without a key the answer for one would be served to another"
        )
    return lambda args, kwargs: ""
