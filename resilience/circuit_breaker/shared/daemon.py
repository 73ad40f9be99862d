"""One thread a process that exchanges opinions, and starts again in a forked child."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Protocol

from backstay.clock import monotonic
from backstay.telemetry import announce

from ...forks import renew_in_child

__all__ = ["Exchanging", "exchange_regularly"]

logger = logging.getLogger("backstay.resilience")

_NAME = "backstay-breakers"


class Exchanging(Protocol):
    """Something that exchanges opinions every `interval` seconds."""

    @property
    def interval(self) -> float:
        """Seconds between two exchanges."""
        ...

    def refresh(self) -> bool:
        """Exchange once; whether the store answered."""
        ...


class _Daemon:
    """The thread, and what it looks after for as long as that lives."""

    def __init__(self) -> None:
        self._due: weakref.WeakKeyDictionary[Exchanging, float] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        renew_in_child(self, last=True)

    def add(self, subject: Exchanging) -> None:
        with self._lock:
            self._due[subject] = monotonic()
            self._start()
        self._wake.set()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
            self._thread.start()
            announce(_NAME, self._thread.is_alive)

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                due = [subject for subject, moment in self._due.items() if moment <= monotonic()]
            for subject in due:
                self._serve(subject)
            due.clear()
            subject = None  # type: ignore[assignment]  # keep nothing alive while waiting
            with self._lock:
                first = min(self._due.values(), default=None)
            self._wake.wait(None if first is None else max(0.001, first - monotonic()))
            self._wake.clear()

    def _serve(self, subject: Exchanging) -> None:
        try:
            subject.refresh()
        except Exception:  # the thread serves others as well
            logger.exception("%r failed; it is tried again", subject)
        with self._lock:
            if subject in self._due:
                self._due[subject] = monotonic() + subject.interval

    def stop(self) -> None:
        """End the thread, at exit, within a second."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def renew(self) -> None:
        """Start the thread again in a forked child."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        ran, self._thread = self._thread is not None, None
        if ran and not self._stopping and len(self._due):
            for subject in list(self._due):
                self._due[subject] = 0.0
            self._start()


_daemon = _Daemon()
atexit.register(_daemon.stop)


def exchange_regularly(subject: Exchanging) -> None:
    """Have `subject.refresh()` called every `subject.interval` seconds for as long as it lives."""
    _daemon.add(subject)
