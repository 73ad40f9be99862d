"""One thread a process that looks after all planes, and starts again in a forked child."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Protocol

from backstay.clock import monotonic
from backstay.telemetry import announce

from ..forks import renew_in_child

__all__ = ["Watched", "unwatch", "wake", "watch"]

logger = logging.getLogger("backstay.resilience")

_NAME = "backstay-switches"
_LONGEST = 3600.0
_UNDER_WAY = float("inf")


class Watched(Protocol):
    """Something that is looked after from behind."""

    def look(self) -> float:
        """Do what is due; return in how many seconds something is due again. Never raises on account of a source."""
        ...

    @property
    def interval(self) -> float:
        """Seconds to the next look after one that raised."""
        ...


class _Watcher:
    """The thread and what it looks after."""

    def __init__(self) -> None:
        self._watched: weakref.WeakKeyDictionary[Watched, float] = weakref.WeakKeyDictionary()  # to when it is due
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        renew_in_child(self, last=True)

    def add(self, watched: Watched, seconds: float) -> None:
        with self._lock:
            self._watched[watched] = monotonic() + seconds
            self._start()
        self._wake.set()

    def drop(self, watched: Watched) -> None:
        with self._lock:
            self._watched.pop(watched, None)

    def hurry(self, watched: Watched) -> None:
        with self._lock:
            if watched in self._watched:
                self._watched[watched] = 0.0
        self._wake.set()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
            self._thread.start()
            announce(_NAME, self._thread.is_alive)

    def _run(self) -> None:
        while not self._stopping:
            now = monotonic()
            with self._lock:
                due = [watched for watched, moment in self._watched.items() if moment <= now]
                for watched in due:
                    self._watched[watched] = _UNDER_WAY  # what hurries it from now on counts for the next look
            while due:
                self._look(due.pop(0))
            with self._lock:
                next_due = min(self._watched.values(), default=_UNDER_WAY)
            watched = None  # type: ignore[assignment]  # keep nothing alive while waiting
            if next_due > 0.0:
                self._wake.wait(min(_LONGEST, max(0.0, next_due - monotonic())))
            self._wake.clear()

    def _look(self, watched: Watched) -> None:
        try:
            seconds = watched.look()
        except Exception:  # the thread serves others as well
            logger.exception("looking after %r failed; it is tried again", watched)
            seconds = watched.interval
        with self._lock:
            if watched in self._watched:
                self._watched[watched] = min(self._watched[watched], monotonic() + seconds)

    def stop(self) -> None:
        """End the thread, at exit, within a second."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def renew(self) -> None:
        """Start the thread again in a forked child, where everything is looked at once."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        ran, self._thread = self._thread is not None, None
        if ran and not self._stopping and len(self._watched):
            for watched in list(self._watched):
                self._watched[watched] = 0.0
            self._start()


_watcher = _Watcher()
atexit.register(_watcher.stop)


def watch(watched: Watched, seconds: float) -> None:
    """Have `watched` looked after from now on, for as long as it lives; first in `seconds`."""
    _watcher.add(watched, seconds)


def wake(watched: Watched) -> None:
    """Have `watched` looked after at once, if it is watched."""
    _watcher.hurry(watched)


def unwatch(watched: Watched) -> None:
    """Look after it no longer."""
    _watcher.drop(watched)
