"""One thread a process that keeps all switches fresh, and starts again in a forked child."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Protocol

from backstay.clock import monotonic
from backstay.telemetry import announce

from ..forks import renew_in_child

__all__ = ["Watched", "watch"]

logger = logging.getLogger("backstay.resilience")


class Watched(Protocol):
    """Something that is refreshed every `interval` seconds."""

    @property
    def interval(self) -> float:
        """Seconds between two refreshes."""
        ...

    def refresh(self) -> bool:
        """Look for news; never raises on account of what it finds."""
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

    def add(self, watched: Watched) -> None:
        with self._lock:
            self._watched[watched] = monotonic() + watched.interval
            self._start()
        self._wake.set()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="backstay-switches", daemon=True)
            self._thread.start()
            announce("backstay-switches", self._thread.is_alive)

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                due = dict(self._watched)
            now = monotonic()
            for watched, moment in due.items():
                if moment <= now:
                    try:
                        watched.refresh()
                    except Exception:  # the thread serves others as well
                        logger.exception("refreshing %r failed; it is tried again", watched)
                    with self._lock:
                        if watched in self._watched:
                            self._watched[watched] = monotonic() + watched.interval
            with self._lock:
                next_due = min(self._watched.values(), default=None)
            due.clear()
            watched = None  # type: ignore[assignment]  # keep nothing alive while waiting
            self._wake.wait(None if next_due is None else max(0.01, next_due - monotonic()))
            self._wake.clear()

    def stop(self) -> None:
        """End the thread, at exit, within a second."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def renew(self) -> None:
        """Start the thread again in a forked child, which keeps the values that it inherited."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        ran, self._thread = self._thread is not None, None
        if ran and not self._stopping and len(self._watched):
            for watched in list(self._watched):
                self._watched[watched] = 0.0
            self._start()


_watcher = _Watcher()
atexit.register(_watcher.stop)


def watch(watched: Watched) -> None:
    """Have `watched.refresh()` called every `watched.interval` seconds for as long as it lives."""
    _watcher.add(watched)
