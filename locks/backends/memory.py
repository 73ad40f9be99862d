"""Locks of one process: the same rules as the Redis scripts, over a dict and the process's own clock.

`memory://` names one store that every thread and event loop of the process shares, `memory://NAME` another. A
forked child starts with empty stores: what it locks excludes only itself.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence

from backstay.clock import Clock, monotonic
from backstay.locks import fork
from backstay.locks.backend import ALIVE, TOMBSTONE, Busy, Freed, Kept, Note, Renewal
from backstay.runtime import Runtime, Signal

__all__ = ["MemoryBackend", "MemoryStore", "store"]

SWEEP = 1024  # locks above which a new one may trigger a sweep of those that lapsed


class _Lock:
    """One lock: its owner until `ends`, and who waits, first come first."""

    __slots__ = ("ends", "fence", "owner", "queue")

    def __init__(self) -> None:
        self.owner = ""
        self.fence = 0
        self.ends = 0.0
        self.queue: dict[str, tuple[float, float]] = {}  # token -> (alive until, ttl), in order of arrival


class MemoryStore:
    """The locks of one process. Every method is one step that no other thread sees half done.

    Args:
        clock: seconds; decides when leases end.
        first_fence: fences are above this. The default, the time in microseconds, keeps fences rising over a
            restart of the process, since the resource they guard may outlive it (F2); it decides nothing else.
    """

    def __init__(self, clock: Clock = monotonic, first_fence: int | None = None) -> None:
        self._clock = clock
        self._fence = time.time_ns() // 1000 if first_fence is None else first_fence
        self._empty()

    def _empty(self) -> None:
        self._mutex = threading.Lock()
        self._locks: dict[str, _Lock] = {}
        self._gone: dict[str, float] = {}  # tombstones
        self._gone_order: list[tuple[float, str]] = []
        self._sweep_at = SWEEP
        self.letters: dict[str, MemoryLetter] = {}

    def take(self, name: str, token: str, ttl: float, queue: bool) -> int | Busy:
        """See `Backend.take`."""
        with self._mutex:
            now = self._clock()
            if self._gone and self._is_gone(token, now):
                return Busy(None, now, 0, "")
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = _Lock()
                if len(self._locks) > self._sweep_at:
                    self._sweep(now)
            elif lock.owner and now < lock.ends:
                if lock.owner == token:
                    lock.ends = now + ttl
                    return lock.fence
                return self._queue(lock, token, ttl, queue, now)
            elif lock.queue:
                won = self._pass_on(lock, now, token, ttl)
                if won and won != token:
                    return self._queue(lock, token, ttl, queue, now)
                if won:
                    return lock.fence
            return self._grant(lock, token, ttl, now)

    def release(self, name: str, token: str, fence: int) -> Freed:
        """See `Backend.release`."""
        with self._mutex:
            now = self._clock()
            lock = self._locks.get(name)
            if lock is None or lock.owner != token or lock.fence != fence or now >= lock.ends:
                return Freed.NOT_OWNER
            self._free(name, lock, now)
            return Freed.FREED

    def renew(self, lease: Renewal) -> Kept:
        """See `Backend.renew`."""
        with self._mutex:
            now = self._clock()
            lock = self._locks.get(lease.name)
            if lock is None or lock.owner != lease.token or lock.fence != lease.fence or now >= lock.ends:
                return Kept.NOT_OWNER
            lock.ends = max(lock.ends, now + lease.ttl)
            return Kept.RENEWED

    def withdraw(self, name: str, token: str, in_flight: bool) -> None:
        """See `Backend.withdraw`."""
        with self._mutex:
            now = self._clock()
            if in_flight:
                self._gone[token] = now + TOMBSTONE
                heapq.heappush(self._gone_order, (now + TOMBSTONE, token))
            lock = self._locks.get(name)
            if lock is None:
                return
            lock.queue.pop(token, None)
            if lock.owner == token and now < lock.ends:
                self._free(name, lock, now)
            elif not lock.queue and now >= lock.ends:
                del self._locks[name]

    def forked(self) -> None:
        """Start empty: the parent's holders and waiters are not in this process."""
        self._empty()

    # -- with the mutex held

    def _grant(self, lock: _Lock, token: str, ttl: float, now: float) -> int:
        self._fence += 1
        lock.owner, lock.fence, lock.ends = token, self._fence, now + ttl
        return self._fence

    def _queue(self, lock: _Lock, token: str, ttl: float, queue: bool, now: float) -> Busy:
        if queue:
            lock.queue[token] = (now + ALIVE, ttl)  # an entry that is there keeps its place
        return Busy(lock.ends - now, now, len(lock.queue), lock.owner)

    def _free(self, name: str, lock: _Lock, now: float) -> None:
        lock.owner = ""
        if not self._pass_on(lock, now, "", 0.0):
            del self._locks[name]

    def _pass_on(self, lock: _Lock, now: float, me: str, my_ttl: float) -> str:
        """Give a free lock to the first live waiter; return its token, or nothing where nobody waits."""
        while lock.queue:
            token = next(iter(lock.queue))
            alive, ttl = lock.queue.pop(token)
            if token == me:
                self._grant(lock, token, my_ttl, now)
                return token
            letter = self.letters.get(token)
            if letter is not None and alive >= now:
                letter.deliver(Note(self._grant(lock, token, ttl, now), now))
                return token
        return ""

    def _is_gone(self, token: str, now: float) -> bool:
        while self._gone_order and self._gone_order[0][0] <= now:
            self._gone.pop(heapq.heappop(self._gone_order)[1], None)
        return token in self._gone

    def _sweep(self, now: float) -> None:
        """Drop locks whose holders lapsed and for which nobody came again."""
        kept = {name: lock for name, lock in self._locks.items() if lock.queue or lock.ends > now or not lock.owner}
        self._locks = kept
        self._sweep_at = max(SWEEP, 2 * len(self._locks))


class MemoryLetter:
    """A waiter's place; the signal is made only by one who really waits."""

    __slots__ = ("_note", "_runtime", "_signal", "_store", "_token", "address")

    def __init__(self, runtime: Runtime, store: MemoryStore, token: str) -> None:
        self._runtime, self._store, self._token = runtime, store, token
        self._note: Note | None = None
        self._signal: Signal | None = None
        self.address = token
        store.letters[token] = self

    def deliver(self, note: Note) -> None:
        """Leave a note; called with the store's mutex held."""
        self._note = note
        if self._signal is not None:
            self._signal.set()

    async def wait(self, timeout: float) -> Note | None:
        if self._signal is None:
            self._signal = self._runtime.signal()
        if self._note is None:  # tested after the signal is there, delivered before it is raised
            await self._signal.wait(timeout)
        note, self._note = self._note, None
        self._signal.clear()
        return note

    def wake(self) -> None:
        """Let the waiter look again."""
        if self._signal is not None:
            self._signal.set()

    def close(self) -> None:
        self._store.letters.pop(self._token, None)


class MemoryBackend:
    """The port over a store in this process; serves threads and event loops alike."""

    kind = "memory"
    label = "memory://"
    patience = 60.0  # nothing here waits for anybody

    def __init__(self, runtime: Runtime, store: MemoryStore, space: str) -> None:
        self._runtime, self._store, self._space = runtime, store, space + "/"
        self._letters: set[MemoryLetter] = set()

    async def take(self, name: str, token: str, ttl: float, address: str, timeout: float) -> int | Busy:
        return self._store.take(self._space + name, token, ttl, bool(address))

    async def release(self, name: str, token: str, fence: int, timeout: float) -> Freed:
        return self._store.release(self._space + name, token, fence)

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        return [self._store.renew(lease._replace(name=self._space + lease.name)) for lease in leases]

    async def withdraw(self, name: str, token: str, in_flight: bool, timeout: float) -> None:
        self._store.withdraw(self._space + name, token, in_flight)

    def letter(self, token: str) -> MemoryLetter:
        return MemoryLetter(self._runtime, self._store, token)

    async def open(self, timeout: float) -> None:
        """Nothing to open: notes are delivered by the step that grants."""

    async def close(self) -> None:
        """Nothing to drop; the store belongs to the process."""

    def forked(self) -> None:
        """Nothing here: the store sees to itself."""


_stores: dict[str, MemoryStore] = {}
_stores_mutex = threading.Lock()


def store(name: str) -> MemoryStore:
    """Return the process's store of that name."""
    with _stores_mutex:
        found = _stores.get(name)
        if found is None:
            found = _stores[name] = MemoryStore()
            fork.watch(found)
        return found
