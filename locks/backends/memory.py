"""Locks of one process: the same rules as the Redis scripts, over a dict and the process's own clock.

`memory://` names one store that every thread and event loop of the process shares, `memory://NAME` another. A
forked child starts with empty stores: what it locks excludes only itself.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from backstay.clock import Clock, monotonic
from backstay.locks import fork
from backstay.locks.backend import Busy, Freed, Kept, Note, Renewal, Survey, Watcher
from backstay.locks.backends.memory_documents import DocumentStore, MemoryDocuments
from backstay.locks.claims import KINDS, Claim, Resource
from backstay.locks.table import Table
from backstay.runtime import Runtime, Signal

__all__ = ["MemoryBackend", "MemoryStore", "store"]

T = TypeVar("T")

SWEEP = 1024  # locks above which a new one may trigger a sweep of those that lapsed


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
        self.documents = DocumentStore(clock)
        self._empty()

    def _empty(self) -> None:
        self.mutex = threading.Lock()
        self._tables: dict[tuple[str, Resource], Table] = {}
        self._sweep_at = SWEEP
        self.letters: dict[str, MemoryLetter] = {}

    def run(self, space: str, resource: Resource, step: Callable[[Table, float], T]) -> T:
        """Run one step of a resource's table."""
        place = (space, resource)
        with self.mutex:
            table = self._tables.get(place)
            if table is None:
                if len(self._tables) >= self._sweep_at:
                    self._sweep()
                table = self._tables[place] = Table(self._draw, self._hand_over)
            try:
                return step(table, self._clock())
            finally:
                if table.idle:
                    del self._tables[place]

    def resources(self, space: str, limit: int) -> list[Resource]:
        """See `Backend.resources`."""
        with self.mutex:
            now = self._clock()
            busy = (place[1] for place, table in self._tables.items() if place[0] == space and table.busy(now))
            return list(itertools.islice(busy, limit))

    def forked(self) -> None:
        """Start empty: the parent's holders and waiters are not in this process."""
        self._empty()
        self.documents.forget_all()

    # -- with the mutex held

    def _draw(self) -> int:
        self._fence += 1
        return self._fence

    def _hand_over(self, address: str, token: str, fence: int) -> bool:
        letter = self.letters.get(token)
        if letter is None:
            return False
        letter.deliver(Note(fence, self._clock()))
        return True

    def _sweep(self) -> None:
        """Drop what lapsed and nobody came for again."""
        now = self._clock()
        for table in self._tables.values():
            table.sweep(now)
        self._tables = {
            place: table for place, table in self._tables.items() if table.size or table.gone or table.busy(now)
        }
        self._sweep_at = max(SWEEP, 2 * len(self._tables))


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
    kinds = KINDS
    session = None

    def __init__(self, runtime: Runtime, store: MemoryStore, space: str) -> None:
        self._runtime, self._store, self._space = runtime, store, space
        self._run = store.run
        self.documents = MemoryDocuments(runtime, store.documents, space)

    def attend(self, watcher: Watcher) -> None:
        """No session here: each grant has its own time."""

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        return self._run(
            self._space, resource, lambda table, now: table.take(resource, token, claim, ttl, address, now)
        )

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        return self._run(self._space, resource, lambda table, now: table.release(token, fence, now))

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        return self._run(self._space, resource, lambda table, now: table.lessen(token, fence, claim, now))

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        return [self._renew(lease) for lease in leases]

    def _renew(self, lease: Renewal) -> Kept:
        return self._run(
            self._space, lease.resource, lambda table, now: table.renew(lease.token, lease.fence, lease.ttl, now)
        )

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        self._run(self._space, resource, lambda table, now: table.withdraw(token, in_flight, now))

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        await self.withdraw(resource, token, True, timeout)

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        return self._run(self._space, resource, lambda table, now: table.resize(size, drain, now))

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        return self._run(self._space, resource, lambda table, now: table.survey(now))

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        return self._store.resources(self._space, limit)

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
