"""Counts calls in flight against a limit, and moves the limit when a window has been seen. No clock of its own.

`in_flight` is changed under a lock that holds nothing else. Windows are judged under a second lock that is only
tried: whoever finds it taken goes on, for its own call is in the next window.
"""

from __future__ import annotations

import threading

from backstay.errors import Unavailable

from .algorithms import aimd, gradient2, in_use, vegas
from .baseline import Baseline
from .priority import share
from .settings import ConcurrencySettings
from .window import Samples, Window

__all__ = ["Governor"]


class Governor:
    """An adaptive limit.

    Attributes:
        limit: as it stands, not rounded.
        in_flight: calls that were let in and have not ended.
        parts: how many calls may run at once for each priority, the highest first.
    """

    def __init__(self, settings: ConcurrencySettings, now: float) -> None:
        self._lock = threading.Lock()
        self._judging = threading.Lock()
        self._settings = settings
        self._baseline = Baseline()
        self._samples = Samples(now)
        self._kept = 0.0
        self.limit = float(settings.initial)
        self.in_flight = 0
        self.parts = self._divide(self.limit)

    @property
    def probing(self) -> bool:
        """Whether the limit is lowered for a window to see how long calls take without a queue."""
        return self._kept > 0

    @property
    def baseline(self) -> float | None:
        """What a call takes without a queue, in seconds, as far as is known."""
        return self._baseline.value

    def reconfigure(self, settings: ConcurrencySettings) -> None:
        """Apply other settings; the limit stays as it is where it is within the new bounds."""
        with self._judging:
            self._settings = settings
            if self.probing:
                self.limit, self._kept = self._kept, 0.0
            self._apply(self.limit)

    def again(self, now: float) -> Governor:
        """Return a governor of the same limit and baseline with nothing in flight, for a forked child."""
        other = Governor(self._settings, now)
        other._baseline.value = self._baseline.value
        other._apply(self._kept or self.limit)
        return other

    def enter(self, rank: int) -> int:
        """Let a call in: returns how many are in flight with it, or 0 if it is refused."""
        parts = self.parts
        with self._lock:
            running = self.in_flight
            if running < parts[rank]:
                self.in_flight = running + 1
                return running + 1
        return 0

    def leave(self, began: float, now: float, in_flight: int, error: BaseException | None) -> None:
        """Take note of a call's end, and of its latency where that says something (AD-1).

        An error of the called function may be quicker than any answer, and a refusal or a cancellation says nothing
        about the server: none of them is a sample. A timeout only says that the server is late.
        """
        with self._lock:
            self.in_flight -= 1
        samples = self._samples
        if self._kept and began < samples.began:  # a call from before the probe ran in the queue that it looks past
            return
        if error is None:
            samples.add(now - began, in_flight)
        elif isinstance(error, TimeoutError | Unavailable):
            samples.drop(in_flight)
        else:
            return
        settings = self._settings
        if now - samples.began >= settings.window and (samples.seen >= settings.min_samples or samples.dropped):
            self._judge(samples, now)

    def _judge(self, samples: Samples, now: float) -> None:
        if not self._judging.acquire(blocking=False):
            return
        try:
            if samples is not self._samples:  # another thread judged it in between
                return
            window = samples.window()
            if self._kept:
                kept, self._kept = self._kept, 0.0
                self._baseline.observe(window, calm=True, probe=True)
                self._apply(kept)
            else:
                self._baseline.observe(window, calm=not in_use(self.limit, window))
                self._apply(self._next(window))
                if self._baseline.stale and self._settings.algorithm != "aimd":
                    kept = self.limit
                    self._apply(kept / 2)
                    self._kept = kept
            self._samples = Samples(now)
        finally:
            self._judging.release()

    def _next(self, window: Window) -> float:
        settings, baseline = self._settings, self._baseline.value
        if settings.algorithm == "aimd":
            return aimd(self.limit, window, settings.target)
        if baseline is None:
            return self.limit
        follow = vegas if settings.algorithm == "vegas" else gradient2
        return follow(self.limit, window, baseline)

    def _apply(self, limit: float) -> None:
        self.limit = max(float(self._settings.least), min(float(self._settings.most), limit))
        self.parts = self._divide(self.limit)

    def _divide(self, limit: float) -> tuple[int, int, int]:
        whole, settings = int(limit), self._settings
        return whole, share(whole, settings.default_share), share(whole, settings.sheddable_share)
