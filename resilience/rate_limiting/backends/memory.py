"""Token buckets of one process, exact under any number of threads.

The state of a key is one integer; a key that is absent has a full bucket, so forgetting a full one changes no
decision, and no other is ever forgotten (RL-9).

**The critical section of `charge` holds no call.** CPython changes threads only at calls, function entries and
backward jumps, so a thread inside it is never sent away holding the lock; with the clock read inside, eight
threads took 1.57 times as long as one, without 1.03. A test reads the byte code. A moment that was read before
the lock may be older than the state that it meets: that can only refuse more.

Keys are spread over parts because a dict that grows is copied under the lock: 27 ms at a million keys in one.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, islice
from typing import TypeAlias

from backstay.errors import Misuse

from ...forks import renew_in_child
from ..backend import Taken, Told
from ..carry import Carry, line
from ..decision import NO_ROOM
from ..rate import Rate, Scale

__all__ = ["LOOKS_FOR_ROOM", "MemoryBuckets", "One", "Part", "evict", "note"]

_PARTS = 16
_SOFT = 128  # so many keys of a part stay: those that refill at once would be evicted and made anew all the time
_LOOKS = 2  # old keys looked at for each new one: the table shrinks faster than it grows
LOOKS_FOR_ROOM = 32
_SAMPLE = 1000
_numbers = itertools.count()

Terms: TypeAlias = "tuple[int, int, int, tuple[Rate, Scale] | None]"
"""Ticks a nanosecond, a token and a window; after a change what they are of, for refused calls to tell it."""


class Part:
    """One part of the keys: their arrival times, and in which order to look for full ones.

    Whoever takes several locks takes them in the order of `number`.
    """

    __slots__ = ("lock", "number", "order", "room", "tats", "terms")

    def __init__(self, terms: Terms, room: int) -> None:
        self.lock = threading.Lock()
        self.number = next(_numbers)
        self.tats: dict[str, int] = {}
        self.order: deque[str] = deque()
        self.room = room
        self.terms = terms


class One:
    """The bucket of the empty key, which most limiters have alone: an attribute, no dict and no hash."""

    __slots__ = ("lock", "number", "tat", "terms")

    def __init__(self, terms: Terms) -> None:
        self.lock = threading.Lock()
        self.number = next(_numbers)
        self.tat = 0
        self.terms = terms


class MemoryBuckets:
    """One token bucket a key, in this process.

    Guarantees: decisions equal those of an exact bucket in the order in which calls take the lock; at most
    `max_keys` keys are held, about 90 bytes each beside the key; a new key beyond that is refused until an
    old bucket is full again. Not shared with other processes: N workers admit N times the rate.

    Args:
        rate: of each bucket.
        max_keys: how many buckets may be less than full at the same time.
        clock_ns: monotonic nanoseconds. The default stands still while the machine sleeps, which can only
            refuse more, and is the quickest there is.
    """

    __slots__ = ("__weakref__", "_changing", "_charge", "_charge_one", "_clock", "_one", "_parts", "_rated")

    def __init__(
        self, rate: Rate, *, max_keys: int = 1_000_000, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        if max_keys < 1:
            raise Misuse(f"max_keys must be at least 1, got {max_keys}")
        self._rated = rate, rate.local
        self._clock = clock_ns
        self._changing = threading.Lock()
        terms = _terms(*self._rated, told=False)
        parts = _PARTS if max_keys >= _PARTS * _SOFT else 1  # few keys: one part, so that the bound is exact
        self._parts = tuple(Part(terms, max_keys // parts) for _ in range(parts))
        self._one = One(terms)
        self._charge_one = _charger_of_one(self._one, clock_ns)
        self._charge = _charger(self._parts, self._charge_one, clock_ns)
        renew_in_child(self)

    @property
    def identity(self) -> object:
        """What is the same for all that charge the same buckets."""
        return id(self)

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        return self._rated[0]

    @property
    def scale(self) -> Scale:
        """The unit of balances."""
        return self._rated[1]

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key` and return the balance (see `backend`)."""
        return self._charge(key, cost)

    def charger(self) -> Callable[[str, int], int]:
        """Return `charge` as a plain function, for hot paths: a bound method and its attributes cost 150 ns."""
        return self._charge

    def charger_of_one(self) -> Callable[[int], int]:
        """Return `charge` for the empty key, a function of the cost."""
        return self._charge_one

    def take(self, key: str, cost: int, ahead: float) -> Taken:
        """Take tokens that are there within `ahead` seconds (see `backend.Reserving`)."""
        from .memory_steps import take_all  # built on this module

        return take_all([(self, key, cost)], ahead)[1][0]

    def give(self, key: str, cost: int, until: int) -> bool:
        """Give tokens back before the nanosecond `until`, or at any time where that is 0."""
        from .memory_steps import give

        return give(self, key, cost, until)

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Go over to another rate; each bucket as it stood at this moment (see `carry`).

        Takes some 0.5 us for each key that is held, a sixteenth of them at a time under their lock.
        """
        with self._changing:
            old, scale = self._rated
            if rate == old:
                return
            at = line(old, rate, carry, scale.second // 1_000_000)
            rated = rate, rate.local
            terms = _terms(*rated, told=True)
            fine = rated[1].second // 1_000_000
            now = self._clock()
            before, after = now * (scale.second // 1_000_000_000), now * terms[0]
            for part in self._parts:
                with part.lock:
                    part.tats = {key: after + at(tat - before) * fine for key, tat in part.tats.items()}
                    part.terms = terms
            with self._one.lock:
                self._one.tat = after + at(self._one.tat - before) * fine
                self._one.terms = terms
            self._rated = rated

    def place(self, key: str) -> One | Part:
        """Return where the bucket of `key` is kept."""
        return self._parts[hash(key) & len(self._parts) - 1] if key else self._one

    def now_ns(self) -> int:
        """Return the moment, in nanoseconds of its own clock."""
        return self._clock()

    def __len__(self) -> int:
        """How many keys are held."""
        return sum(len(part.tats) for part in self._parts)

    def utilization(self) -> float:
        """Return how empty the emptiest bucket is, 0 to 1, among the first thousand keys. Takes no lock."""
        scale = self.scale
        now = self._clock() * (scale.second // 1_000_000_000)
        try:
            keyed = chain.from_iterable(part.tats.values() for part in self._parts)
            tats = [self._one.tat, *islice(keyed, _SAMPLE)]
        except RuntimeError:  # a dict grew meanwhile, which only a free-threaded build allows
            return 0.0
        return max(0, max(tats) - now) / scale.window

    def renew(self) -> None:
        """Replace the locks in a forked child."""
        self._changing = threading.Lock()
        self._one.lock = threading.Lock()
        for part in self._parts:
            part.lock = threading.Lock()


def _terms(rate: Rate, scale: Scale, *, told: bool) -> Terms:
    return scale.second // 1_000_000_000, scale.token, scale.window, (rate, scale) if told else None


def _charger_of_one(one: One, clock: Callable[[], int]) -> Callable[[int], int]:
    """Return the hot path of one bucket; see `_charger`."""

    def charge(cost: int) -> int:
        now = clock()
        with one.lock:
            ticks, token, window, told = one.terms
            if ticks != 1:
                now *= ticks
            balance = one.tat - now
            if balance < 0:
                balance = 0
            balance += cost * token
            if balance <= window:
                one.tat = now + balance
                return balance
        return window - balance if told is None else Told.of(window - balance, *told)

    return charge


def _charger(
    parts: tuple[Part, ...], charge_one: Callable[[int], int], clock: Callable[[], int]
) -> Callable[[str, int], int]:
    """Return the hot path. Everything it uses is a local name or a cell; see the top for what it must not do."""
    mask = len(parts) - 1

    def charge(key: str, cost: int) -> int:
        if not key:
            return charge_one(cost)
        now = clock()
        part = parts[hash(key) & mask]
        with part.lock:
            ticks, token, window, told = part.terms
            if ticks != 1:
                now *= ticks
            tats = part.tats
            if key in tats:
                balance = tats[key] - now
                if balance < 0:
                    balance = 0
                balance += cost * token
                if balance <= window:
                    tats[key] = now + balance
                    return balance
                room = -1
            else:
                room = part.room
                balance = cost * token
                if balance > window:  # the burst was made smaller meanwhile
                    room = -1
                elif room:
                    part.room = room - 1
                    tats[key] = now + balance
        if room < 0:
            return window - balance if told is None else Told.of(window - balance, *told)
        if room:
            note(part, key, now)
            return balance
        return charge(key, cost) if evict(part, LOOKS_FOR_ROOM, now) else NO_ROOM

    return charge


def note(part: Part, key: str, now: int) -> None:
    """Queue a new key for eviction, and look at old ones."""
    with part.lock:
        part.order.append(key)
    if len(part.order) > _SOFT:
        evict(part, _LOOKS, now)


def evict(part: Part, looks: int, now: int) -> bool:
    """Look at the `looks` oldest keys, forget those that are full again, and return whether there is room."""
    with part.lock:
        order, tats = part.order, part.tats
        for _ in range(min(looks, len(order))):
            key = order.popleft()
            if tats[key] <= now:
                del tats[key]
                part.room += 1
            else:
                order.append(key)
        return part.room > 0
