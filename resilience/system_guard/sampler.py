"""One thread a process that measures load twice a second: the processor's share, and how late event loops are.

No package is needed: the process's own times and the processors that it may use. A loop is asked by a callback; one
that has not come back is late by at least the time since, so that a loop which is stuck is seen while it is.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

from backstay.clock import Clock, monotonic
from backstay.telemetry import announce

from ..forks import renew_in_child
from .load import Load

__all__ = ["Sampler", "shared"]

logger = logging.getLogger("backstay.resilience")

_INTERVAL = 0.5
_SMOOTH = 0.5
"""Weight of the newest measure of the processor, so that one busy half second is no overload yet."""


class _Ping:
    """The question to one loop, and its last answer."""

    __slots__ = ("lag", "sent")

    def __init__(self) -> None:
        self.sent: float | None = None
        self.lag = 0.0


class Sampler:
    """Measures the load of this process.

    Args:
        clock: seconds.
        processor: seconds of processor time that this process has used.
        processors: how many it may use.

    Attributes:
        load: the last measure; read without a lock.
    """

    def __init__(
        self,
        *,
        clock: Clock = monotonic,
        processor: Callable[[], float] = time.process_time,
        processors: Callable[[], int] | None = None,
    ) -> None:
        self._clock = clock
        self._processor = processor
        self._processors = processors if processors is not None else _usable
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ping] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last = (clock(), processor())
        self.load = Load()

    def start(self) -> None:
        """Start the thread at first use."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._last = (self._clock(), self._processor())
                self._thread = threading.Thread(target=self._run, name="backstay-system-guard", daemon=True)
                self._thread.start()
                announce("backstay-system-guard", self._thread.is_alive)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask this loop as well, as long as it lives."""
        if loop not in self._loops:
            with self._lock:
                self._loops.setdefault(loop, _Ping())

    def sample(self) -> None:
        """Measure once."""
        now, used = self._clock(), self._processor()
        began, before = self._last
        cpu = self.load.cpu
        if now > began:
            share = max(0.0, min(1.0, (used - before) / (now - began) / self._processors()))
            cpu += _SMOOTH * (share - cpu)
            self._last = (now, used)
        with self._lock:
            loops = list(self._loops.items())
        self.load = Load(cpu=cpu, lag=max((self._ask(loop, ping, now) for loop, ping in loops), default=0.0))

    def stop(self) -> None:
        """End the thread, at exit, within a second."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def renew(self) -> None:
        """Start again in a forked child, where the parent's loops and thread do not exist."""
        ran, self._thread = self._thread is not None, None
        self._lock = threading.Lock()
        stopped = self._stop.is_set()
        self._stop = threading.Event()
        self._loops = weakref.WeakKeyDictionary()
        self.load = Load()
        if ran and not stopped:
            self.start()

    def _ask(self, loop: asyncio.AbstractEventLoop, ping: _Ping, now: float) -> float:
        if ping.sent is not None:
            if not loop.is_running():  # between two runs it is late for nobody
                ping.sent, ping.lag = None, 0.0
                return 0.0
            return max(ping.lag, now - ping.sent)
        lag, ping.lag = ping.lag, 0.0
        if loop.is_running():
            ping.sent = now

            def answer() -> None:
                ping.lag = max(0.0, self._clock() - now)
                ping.sent = None

            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:  # closed in this moment
                ping.sent = None
        return lag

    def _run(self) -> None:
        stop = self._stop
        while not stop.wait(_INTERVAL):
            try:
                self.sample()
            except Exception:  # without measures nothing would be refused: try again
                logger.exception("measuring the load failed; it is tried again")


def _usable() -> int:
    with contextlib.suppress(AttributeError):  # not Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


shared = Sampler()
"""The sampler of this process; its thread starts with the first guard."""
renew_in_child(shared, last=True)
atexit.register(shared.stop)
