"""What listeners hear: one event a change of level, in order, without a lock (DG-7)."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from backstay.errors import Misuse
from backstay.telemetry import counter

from .words import Level

__all__ = ["LevelChange", "Listener", "Post"]

logger = logging.getLogger("backstay.resilience")

_MOST_WAITING = 10_000  # events that wait while a listener hangs; older ones are dropped, as `number` shows


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """A resource went from one level to another.

    Attributes:
        resource: its name; `*` for all together.
        number: 1 for its first change.
        before: the level that it left.
        after: the level that it is at.
        cause: a signal, `recovered`, `force`, `pin`, `remote`, `global` or `released`.
        sample: the readings that the change was decided by; those that were unknown are left out.
    """

    resource: str
    number: int
    before: Level
    after: Level
    cause: str
    sample: Mapping[str, float]


Listener: TypeAlias = Callable[[LevelChange], object]
"""Told of changes, in the thread or task that made one. What it raises is logged and changes nothing."""


class Post:
    """Takes events under a resource's lock, and hands them out after it."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._waiting: deque[LevelChange] = deque(maxlen=_MOST_WAITING)
        self._baton = threading.Lock()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every change from now on; return what ends that.

        Raises:
            Misuse: it is no plain function of one argument.
        """
        given: Any = listener
        if not callable(given) or inspect.iscoroutinefunction(given):
            raise Misuse(f"a listener of levels must be a plain function, got {listener!r}")
        self._listeners = (*self._listeners, listener)

        def leave() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return leave

    def add(self, event: LevelChange) -> None:
        """Take an event."""
        self._waiting.append(event)

    def deliver(self) -> None:
        """Tell what waits, without a lock; who finds another thread at it leaves it to that thread."""
        while self._waiting and self._baton.acquire(blocking=False):
            try:
                while self._waiting:
                    self._tell(self._waiting.popleft())
            finally:
                self._baton.release()

    def renew(self) -> None:
        """Begin anew in a forked child; what waited there is the parent's to tell."""
        self._baton = threading.Lock()
        self._waiting.clear()

    def _tell(self, event: LevelChange) -> None:
        between = {"from": event.before.word, "to": event.after.word}
        counter(
            "degrade.transitions", "{transition}",
            resource=event.resource, policy_name=event.resource, policy_type="degrade", cause=event.cause, **between,
        ).n += 1  # fmt: skip
        logger.warning(
            "level of %r: %s -> %s (%s) %s",
            event.resource, event.before.word, event.after.word, event.cause, dict(event.sample),
            extra={"event_name": "backstay.degrade.level_changed"},
        )  # fmt: skip
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # the level counts all the same, and so do the other listeners
                logger.exception("listener %r of levels failed", listener)
