"""The permits of a semaphore bulkhead: exact for threads and for tasks of any number of loops at once (BH-1, AS-4).

Theory of operation. A free permit is an entry of a list. `list.pop` and `list.append` are atomic on every build of
CPython, so that a call which finds nobody in line takes and gives back without a lock:

    take:  nobody in line, and pop() gives an entry        otherwise: stand in line
    give:  append(entry); if somebody is in line, hand on

Nobody is forgotten, because each side writes before it looks: whoever gives appends first and looks at the line
after, whoever waits stands in line first and looks at the list after. One of the two sees the other. Nobody
overtakes, because with somebody in line newcomers leave the list alone.

Fewer permits than are in use make a debt, which stands at the head of the line and swallows what comes back.

The lock of the line is reentrant: the garbage collector may close an abandoned stream, and so give back its permit,
while this very thread holds it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from .waiters import Waiter

__all__ = ["Permits"]


class _Debt:
    """Stands in line for permits that are to disappear."""

    def grant(self) -> bool:
        return True


class Permits:
    """So many permits and a line of waiters.

    Attributes:
        take: takes a free permit, or raises IndexError. Only for whoever found `line` empty.
        put: puts a permit back. Whoever calls it must look at `line` afterwards, and `hand_on` if it is not empty.
        line: who waits, first come first.
    """

    __slots__ = ("_debt", "_free", "_lock", "_owed", "limit", "line", "put", "take")

    def __init__(self, limit: int) -> None:
        self._free: list[None] = [None] * limit
        self._lock = threading.RLock()
        self._debt = _Debt()
        self._owed = 0
        self.limit = limit
        self.take = self._free.pop
        self.put = self._free.append
        self.line: OrderedDict[Waiter, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Permits that calls hold now; reads without a lock."""
        return max(0, self.limit + self._owed - len(self._free))

    @property
    def waiting(self) -> int:
        """Waiters in line now; reads without a lock."""
        return max(0, len(self.line) - (self._debt in self.line))

    def try_take(self) -> bool:
        """Take a permit if one is free and nobody waits for it."""
        with self._lock:
            self._hand_on()
            if self.line:
                return False
            try:
                self.take()
            except IndexError:
                return False
            return True

    def stand_in_line(self, waiter: Waiter, most: int) -> bool:
        """Put `waiter` at the end of the line, where it may be granted a permit at once; False if the line is full."""
        with self._lock:
            if self.waiting >= most:
                return False
            self.line[waiter] = None
            self._hand_on()
            return True

    def leave(self, waiter: Waiter) -> bool:
        """Take `waiter` out of the line; True if it had been granted a permit, which is now the caller's."""
        with self._lock:
            if waiter not in self.line:
                return True
            del self.line[waiter]
            return False

    def give_back(self) -> None:
        """Put a permit back, and hand it to the first in line."""
        self.put(None)
        if self.line:
            self.hand_on()

    def settle(self, error: BaseException | None) -> None:
        """Give back the permit of a call that has ended in whatever way."""
        self.give_back()

    def hand_on(self) -> None:
        """Grant free permits to those in line."""
        with self._lock:
            self._hand_on()

    def resize(self, limit: int) -> None:
        """Have `limit` permits from now on; with more in use, none is granted before enough have come back."""
        with self._lock:
            more = limit - self.limit
            self.limit = limit
            pardoned = max(0, min(more, self._owed))
            self._owed += max(0, -more) - pardoned
            if self._owed:
                self.line[self._debt] = None
                self.line.move_to_end(self._debt, last=False)
            else:
                self.line.pop(self._debt, None)
            for _ in range(more - pardoned):
                self.put(None)
            self._hand_on()

    def _hand_on(self) -> None:
        line = self.line
        while line:
            try:
                self.take()
            except IndexError:
                return
            first = next(iter(line), None)
            if first is self._debt and self._owed > 1:
                self._owed -= 1
            elif first is None or not self._serve(first):
                self.put(None)

    def _serve(self, first: Waiter) -> bool:
        try:
            del self.line[first]
        except KeyError:  # served by a collection of garbage in between
            return False
        if first is self._debt:
            self._owed = 0
        return first.grant()
