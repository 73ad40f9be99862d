"""Documents of one process: texts with versions over a dict and the process's own clock."""

from __future__ import annotations

import threading
from typing import NamedTuple

from backstay.clock import Clock
from backstay.locks.claims import Resource
from backstay.locks.documents import Document, checked_text
from backstay.runtime import Runtime, Signal

__all__ = ["DocumentStore", "MemoryDocuments"]

SWEEP = 1024  # documents above which a new one may trigger a sweep of those that lapsed

Place = tuple[str, Resource]


class _Kept(NamedTuple):
    text: str
    version: int
    ends: float | None


class DocumentStore:
    """The documents of one process. Every method is one step that no other thread sees half done.

    Args:
        clock: seconds; decides when untouched documents are forgotten.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._version = 0  # one count for all: a document that is made anew never has a version that it had before
        self.forget_all()

    def forget_all(self) -> None:
        """Start empty, in a forked child as well: the mutex may have been held by a thread that is not here."""
        self._mutex = threading.Lock()
        self._kept: dict[Place, _Kept] = {}
        self._listening: dict[Place, set[Signal]] = {}
        self._sweep_at = SWEEP

    def read(self, place: Place) -> Document | None:
        """Return the document; None where there is none."""
        with self._mutex:
            now = self._clock()
            found = self._live(place, now)
            return None if found is None else Document(found.text, found.version, now)

    def write(self, place: Place, text: str, version: int, ttl: float | None) -> Document | None:
        """Set the text if the document still has `version`."""
        with self._mutex:
            now = self._clock()
            found = self._live(place, now)
            if (0 if found is None else found.version) != version:
                return None
            if found is None and len(self._kept) >= self._sweep_at:
                self._sweep(now)
            self._version += 1
            self._kept[place] = _Kept(text, self._version, None if ttl is None else now + ttl)
            self._ring(place)
            return Document(text, self._version, now)

    def delete(self, place: Place, version: int) -> bool:
        """Delete the document if it still has `version`."""
        with self._mutex:
            found = self._live(place, self._clock())
            if found is None or found.version != version:
                return False
            del self._kept[place]
            self._ring(place)
            return True

    def listen(self, place: Place, signal: Signal) -> None:
        """Raise `signal` at each change from now on."""
        with self._mutex:
            self._listening.setdefault(place, set()).add(signal)

    def leave(self, place: Place, signal: Signal) -> None:
        """Raise `signal` no more."""
        with self._mutex:
            signals = self._listening.get(place, set())
            signals.discard(signal)
            if not signals:
                self._listening.pop(place, None)

    # -- with the mutex held

    def _live(self, place: Place, now: float) -> _Kept | None:
        found = self._kept.get(place)
        if found is None or found.ends is None or now < found.ends:
            return found
        del self._kept[place]
        return None

    def _ring(self, place: Place) -> None:
        for signal in self._listening.get(place, ()):
            signal.set()

    def _sweep(self, now: float) -> None:
        self._kept = {place: each for place, each in self._kept.items() if each.ends is None or now < each.ends}
        self._sweep_at = max(SWEEP, 2 * len(self._kept))


class MemoryWatch:
    """A listener's place at one document."""

    __slots__ = ("_place", "_signal", "_store")

    def __init__(self, store: DocumentStore, place: Place, signal: Signal) -> None:
        self._store, self._place, self._signal = store, place, signal
        store.listen(place, signal)

    async def wait(self, timeout: float) -> bool:
        hinted = await self._signal.wait(timeout)
        if hinted:  # not otherwise: it may be raised just now
            self._signal.clear()
        return hinted

    async def close(self) -> None:
        self._store.leave(self._place, self._signal)


class MemoryDocuments:
    """The port over documents in this process; serves threads and event loops alike."""

    def __init__(self, runtime: Runtime, store: DocumentStore, space: str) -> None:
        self._runtime, self._store, self._space = runtime, store, space

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        return self._store.read((self._space, resource))

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        return self._store.write((self._space, resource), checked_text(resource, text), version, ttl)

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        return self._store.delete((self._space, resource), version)

    async def watch(self, resource: Resource, timeout: float) -> MemoryWatch:
        return MemoryWatch(self._store, (self._space, resource), self._runtime.signal())
