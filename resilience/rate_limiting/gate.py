"""The gate before a store: shut after a few failures, so that calls beside a dead store cost nothing (RL-8)."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from backstay.clock import Clock, monotonic

from ..forks import renew_in_child

__all__ = ["Gate"]

logger = logging.getLogger("backstay.resilience")


class Gate:
    """Open while the store answers; shut after `failures` in a row; then one call at a time probes.

    A success takes no lock and makes no call: it looks at `troubled`. While `troubled`, ask `enter`, and tell
    `passed` or `failed` afterwards.

    Args:
        name: what stands behind the gate, without secrets, for the log.
        failures: how many failures in a row shut it.
        pause: seconds until the first probe; doubled with each failed probe up to `longest`, with full jitter
            over the upper half so that many processes do not probe together.
        longest: the greatest pause.
        clock: monotonic seconds.
        uniform: a random number between two.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 3,
        pause: float = 0.5,
        longest: float = 8.0,
        clock: Clock = monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.shut = False
        self.troubled = False
        self._failures = failures
        self._pause = pause
        self._longest = longest
        self._clock = clock
        self._uniform = uniform
        self._count = 0
        self._probes = 0
        self._probing = False
        self._until = 0.0
        self._lock = threading.Lock()
        renew_in_child(self)

    def enter(self) -> bool:
        """Return whether a call may go to the store now. While shut, one call a pause may: the probe."""
        if not self.shut:
            return True
        if self._clock() < self._until:  # the usual answer beside a dead store: no lock
            return False
        with self._lock:
            if self._clock() < self._until:  # another thread took the probe meanwhile
                return False
            self._probing = True
            self._set_pause()  # the probe's lease: if it never comes back, the next one goes a pause later
            return True

    def passed(self) -> None:
        """Note an answer of the store."""
        with self._lock:
            if self.shut:
                logger.warning("%s answers again", self.name)
            self._count = self._probes = 0
            self.shut = self.troubled = False

    def failed(self, reason: str) -> None:
        """Note that the store gave no answer."""
        with self._lock:
            if self.shut:
                # Calls that were under way when it shut fail as well; only a probe says something new.
                if self._probing:
                    self._probing = False
                    self._probes += 1
                    self._set_pause()
                return
            self._count += 1
            self.troubled = True
            if self._count >= self._failures:
                logger.warning("%s is left alone after %d failures in a row: %s", self.name, self._count, reason)
                self.shut, self._probing, self._probes = True, False, 0
                self._set_pause()

    def _set_pause(self) -> None:
        pause = min(self._longest, self._pause * 2 ** min(self._probes, 16))
        self._until = self._clock() + self._uniform(pause / 2, pause)

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()
