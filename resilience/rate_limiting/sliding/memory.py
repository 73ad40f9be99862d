"""Sliding windows of one process, for both makes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

from backstay.errors import Misuse

from ...forks import renew_in_child
from ..decision import NO_ROOM, Decision
from ..rate import Rate, Scale
from .law import Entries, Law

__all__ = ["AsyncSlidingMemory", "SlidingMemory"]

_LOOKS = 2  # old keys looked at for each new one


class SlidingMemory:
    """One sliding window a key, in this process.

    Guarantees the law of `sliding`, under any number of threads; at most `max_keys` keys are held, and only those
    whose windows are empty are forgotten (RL-9): while there is none of them a new key is refused. Not shared with
    other processes.

    Args:
        rate: of each window, without a burst.
        max_keys: how many windows may hold calls at the same time.
        clock_ns: monotonic nanoseconds.

    Raises:
        Misuse: an argument is out of range.
    """

    def __init__(
        self, rate: Rate, *, max_keys: int = 1_000_000, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        if max_keys < 1:
            raise Misuse(f"max_keys must be at least 1, got {max_keys}")
        self._law = Law(rate, 1_000_000_000)
        self._most = max_keys
        self._clock = clock_ns
        self._windows: OrderedDict[str, Entries] = OrderedDict()
        self._lock = threading.Lock()
        renew_in_child(self)

    @property
    def rate(self) -> Rate:
        """The rate of each window."""
        return self._law.rate

    @property
    def scale(self) -> Scale:
        """The unit of balances: nanoseconds."""
        return self._law.scale

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the window of `key`, all or none, and return the balance."""
        now = self._clock()
        with self._lock:
            entries = self._windows.get(key)
            if entries is None:
                self._forget(now, _LOOKS if len(self._windows) < self._most else 32)
                if len(self._windows) >= self._most:
                    return NO_ROOM
                entries = self._windows[key] = deque()
            return self._law.admit(entries, now, cost)

    def decide(self, balance: int, cost: int) -> Decision:
        """Return the decision that a balance stands for."""
        return self._law.decide(balance, cost)

    def utilization(self) -> float:
        """Return how full the fullest window is, 0 to 1, among a thousand keys."""
        with self._lock:
            oldest = self._clock() - self._law.period
            windows = list(islice(self._windows.values(), 1000))
            used = (sum(tokens for end, tokens in entries if end > oldest) for entries in windows)
            return max(used, default=0) / self._law.count

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._windows)

    def _forget(self, now: int, looks: int) -> None:
        """Look at the keys that were looked at longest ago, and drop those whose windows are empty."""
        for _ in range(min(looks, len(self._windows))):
            key, entries = self._windows.popitem(last=False)
            if entries and entries[-1][0] + self._law.period > now:
                self._windows[key] = entries

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()


class AsyncSlidingMemory:
    """The windows of a `SlidingMemory` behind the asyncio port: nothing is waited for."""

    def __init__(self, windows: SlidingMemory) -> None:
        self.windows = windows
        self.decide = windows.decide
        self.utilization = windows.utilization

    @property
    def rate(self) -> Rate:
        """The rate of each window."""
        return self.windows.rate

    @property
    def scale(self) -> Scale:
        """The unit of balances: nanoseconds."""
        return self.windows.scale

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, as `SlidingMemory.charge` does."""
        return self.windows.charge(key, cost)
