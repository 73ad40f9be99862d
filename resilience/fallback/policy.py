"""Something to say instead of an error: a value, a function of the same arguments, the last good answer (CO-3)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, Rejected, Unavailable

from ..policy import AsyncCall, Call, Layer, Served, Target
from .cover import Cover, Fitted
from .settings import NOTHING, CacheSettings, FallbackSettings
from .telemetry import Answers

__all__ = ["Fallback"]


class Fallback(Layer):
    """Answers in place of a call that was refused or that found a dependency unavailable.

    Both mean that nothing was done, so answering otherwise hides nothing. An unknown outcome is answered only
    where the call is said to change nothing, any other error only if it is named, and `Misuse` never. It answers
    once, in the caller's context and outside every retry. It cannot stand in for a stream.

    Args:
        name: the policy's name in telemetry.
        answer: see `FallbackSettings`, as for the two after it.
        on: see there.
        read_only: see there.
        settings: all of them at once, instead.
        clock: monotonic seconds, for the age of kept answers.

    Raises:
        Misuse: there is no answer, or `on` names something that must not be hidden.
    """

    kind = "fallback"

    def __init__(
        self,
        name: str,
        *,
        answer: Any = NOTHING,
        on: tuple[type[Exception] | str, ...] | type[Exception] | str = (Rejected, Unavailable),
        read_only: bool = False,
        settings: FallbackSettings | None = None,
        clock: Clock = monotonic,
    ) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"Fallback needs its name first, as in Fallback('catalogue', answer=[]), got {name!r}")
        if settings is None:
            errors: Any = on
            settings = FallbackSettings(answer=answer, on=errors, read_only=read_only)
        elif answer is not NOTHING or on != (Rejected, Unavailable) or read_only:
            raise Misuse(f"fallback {name!r}: give settings= or the single options, not both")
        self.name = name
        self._settings = settings
        self._clock = clock
        self._answers = Answers(name)
        self._covers: weakref.WeakSet[Cover] = weakref.WeakSet()

    @classmethod
    def cached(
        cls,
        name: str,
        *,
        max_stale: float,
        max_entries: int = 1024,
        key: str | Callable[..., str] | None = None,
        present: Callable[[Any, float], Any] | None = None,
        answer: Any = NOTHING,
        on: tuple[type[Exception] | str, ...] | type[Exception] | str = (Rejected, Unavailable),
        clock: Clock = monotonic,
    ) -> Fallback:
        """Return a fallback that serves the last good answer of the same key, if it is not too old.

        For functions that only read: what such a call did cannot be in doubt, so an unknown outcome (a timeout)
        is answered as well. The object that was returned is kept, not a copy: return what nobody changes.

        Args:
            name: the policy's name in telemetry.
            max_stale: see `CacheSettings`, as for the three after it.
            max_entries: see there.
            key: see there.
            present: see there.
            answer: what answers where nothing is kept; without it the error passes.
            on: see `FallbackSettings`.
            clock: monotonic seconds.
        """
        keeping = CacheSettings(max_stale=max_stale, max_entries=max_entries, key=key, present=present)
        errors: Any = on
        return cls(name, settings=FallbackSettings(answer=answer, on=errors, cached=keeping), clock=clock)

    @property
    def settings(self) -> FallbackSettings:
        """The settings of now."""
        return self._settings

    def reconfigure(self, settings: FallbackSettings) -> None:
        """Answer otherwise from now on; kept answers stay, and each call sees the old settings or the new.

        Raises:
            Misuse: they do not fit a function that is covered; nothing is changed.
        """
        fitted = [(cover, Fitted.to(cover.target, settings)) for cover in tuple(self._covers)]
        self._settings = settings
        for cover, each in fitted:
            cover.refit(each)

    def prepare(self, target: Target) -> tuple[Call, bool]:
        """Return a function of (refusal, args, kwargs) that gives the answer, and whether to await it.

        Raises:
            Misuse: the settings do not fit the target.
        """
        cover = self._cover(target)
        return (cover.serve_async, True) if target.is_async else (cover.serve, False)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` with the fallback behind it."""
        cover = self._cover(target)
        begin, keep, serve = cover.begin, cover.keep, cover.serve

        def covered(*args: Any, **kwargs: Any) -> Any:
            fitted = cover.fitted
            under = None if fitted.key is None else begin(fitted.key, args, kwargs)
            try:
                answer = call(*args, **kwargs)
            except Exception as error:
                if not fitted.settings.covers(error):
                    raise
                return Served(serve(error, args, kwargs, fitted))
            if under is not None:
                keep(under, answer)
            return answer

        return covered

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` with the fallback behind it."""
        cover = self._cover(target)
        begin, keep, serve = cover.begin, cover.keep, cover.serve_async

        async def covered(*args: Any, **kwargs: Any) -> Any:
            fitted = cover.fitted
            under = None if fitted.key is None else begin(fitted.key, args, kwargs)
            try:
                answer = await call(*args, **kwargs)
            except Exception as error:
                if not fitted.settings.covers(error):
                    raise
                return Served(await serve(error, args, kwargs, fitted))
            if under is not None:
                keep(under, answer)
            return answer

        return covered

    def _cover(self, target: Target) -> Cover:
        for cover in self._covers:  # a switch and the fallback of one function share what is kept
            if cover.target == target:
                return cover
        cover = Cover(target, self._settings, self._answers, self._clock)
        self._covers.add(cover)
        return cover
