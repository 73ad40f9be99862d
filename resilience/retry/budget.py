"""How many retries a service may add to its load (RT-2).

A bucket of retries: each call puts `ratio` of one in, each second `floor`, each retry takes one out, and it holds
at most `reserve`. So in *every* interval, a total outage included:

    retries <= reserve + ratio x calls in it + floor x its seconds

Calls are counted where they are counted anyway, and put in when a retry is asked for: since the bucket only ever
overflows in between, that comes to the same, and a call that succeeds pays nothing for the budget.
"""

from __future__ import annotations

import threading

__all__ = ["RetryBudget"]


class RetryBudget:
    """The bucket of one policy; `now` and the count of calls are arguments.

    Args:
        ratio: retries that each call adds.
        reserve: what it holds at most, and at first.
        floor: retries a second that are allowed whatever the calls.
        now: monotonic seconds.
    """

    def __init__(self, *, ratio: float, reserve: float, floor: float, now: float) -> None:
        self._ratio, self._reserve, self._floor = ratio, reserve, floor
        self._tokens = reserve
        self._seen = 0
        self._stamp = now
        self._lock = threading.Lock()

    def take(self, now: float, calls: int) -> bool:
        """Take a retry out, or return False where there is none.

        Args:
            now: monotonic seconds; one that is older than the last adds nothing.
            calls: how many calls there have been in all.
        """
        with self._lock:  # no call in here: a thread that is preempted now would make all others queue
            tokens = self._tokens
            if calls > self._seen:
                tokens += self._ratio * (calls - self._seen)
                self._seen = calls
            if now > self._stamp:
                tokens += self._floor * (now - self._stamp)
                self._stamp = now
            if tokens > self._reserve:
                tokens = self._reserve
            allowed = tokens >= 1.0
            self._tokens = tokens - 1.0 if allowed else tokens
        return allowed

    def retune(self, *, ratio: float, reserve: float, floor: float) -> None:
        """Go on by other numbers; what is in the bucket stays, as far as it holds it."""
        with self._lock:
            self._ratio, self._reserve, self._floor = ratio, reserve, floor
            if self._tokens > reserve:
                self._tokens = reserve

    def renew(self) -> None:
        """Start counting calls at zero, with a new lock: this is a forked child."""
        self._lock = threading.Lock()
        self._seen = 0

    @property
    def tokens(self) -> float:
        """Retries in the bucket when it was last asked."""
        return self._tokens
