"""What listeners hear: one event a transition, in order, without a lock (CB-7, CB-8)."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from backstay.errors import Misuse

from .states import Cause, State

__all__ = ["Listener", "Post", "Transition"]

logger = logging.getLogger("backstay.resilience")

_MOST_WAITING = 10_000  # events that wait while a listener hangs; older ones are dropped, as `number` shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A breaker went from one state to another.

    Attributes:
        breaker: its name.
        number: 1 for its first transition.
        before: the state that it left.
        after: the state that it is in.
        cause: why.
        calls: those in the window, or in the round of probes, that decided.
        failures: those of them that failed.
        slow: those of them that were slow.
    """

    breaker: str
    number: int
    before: State
    after: State
    cause: Cause
    calls: int
    failures: int
    slow: int


Listener: TypeAlias = Callable[[Transition], object]
"""Told of transitions, in the thread or task of a call that made one. What it raises is logged and changes nothing."""


class Post:
    """Takes events under the breaker's lock, and hands them out after it."""

    def __init__(self, name: str, listeners: Iterable[Listener]) -> None:
        self._name = name
        self._listeners: tuple[Listener, ...] = ()
        self._waiting: deque[Transition] = deque(maxlen=_MOST_WAITING)
        self._baton = threading.Lock()
        for listener in listeners:
            self.listen(listener)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every transition from now on; return what ends that.

        Raises:
            Misuse: it is no plain function of one argument.
        """
        given: Any = listener
        kind: Any = given.__class__
        called = getattr(kind, "__call__", None)  # noqa: B004  # an object may have an async __call__
        if not callable(given) or inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(called):
            raise Misuse(f"a listener of breaker {self._name!r} must be a plain function, got {listener!r}")
        self._listeners = (*self._listeners, listener)

        def leave() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return leave

    def add(self, event: Transition) -> None:
        """Take an event, under the breaker's lock."""
        self._waiting.append(event)

    def deliver(self) -> None:
        """Tell the listeners what waits, without the breaker's lock.

        Who finds another thread at it leaves it to that thread, so that the order holds and nobody waits.
        """
        while self._waiting and self._baton.acquire(blocking=False):
            try:
                self._hand_out()
            finally:
                self._baton.release()

    def _hand_out(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            logger.warning(
                "circuit breaker %r: %s -> %s (%s)",
                event.breaker, event.before.value, event.after.value, event.cause.value,
                extra={"event_name": "backstay.circuit_breaker.state_changed"},
            )  # fmt: skip
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:  # CB-8: the breaker goes on, and so do the other listeners
                    logger.exception("listener %r of circuit breaker %r failed", listener, event.breaker)

    def renew(self) -> None:
        """Begin anew in a forked child; what waited there is the parent's to tell."""
        self._baton = threading.Lock()
        self._waiting.clear()
