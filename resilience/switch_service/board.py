"""The present documents of all scopes in memory, and those who wait for the next ones.

All of it belongs to one event loop. A listener that does not take its news is cut: it comes back and gets the present
document, which is all that anybody needs (SW-4). So a slow one costs a bounded queue and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from backstay.errors import BulkheadFull
from backstay.telemetry import counter, gauge

from ..delivery.envelope import Envelope

__all__ = ["Board", "Listener", "Posted"]

MOST_LISTENERS = 10_000
QUEUE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A document as it is answered."""

    envelope: Envelope
    body: bytes
    etag: str

    @property
    def cursor(self) -> tuple[int, int]:
        """Epoch and version."""
        return self.envelope.cursor


class Listener:
    """Somebody who waits for documents of one scope."""

    def __init__(self) -> None:
        self.cut = False
        self._news: asyncio.Queue[Posted] = asyncio.Queue(QUEUE)
        self._wake = asyncio.Event()

    def tell(self, posted: Posted) -> None:
        """Queue a document, or cut the listener if its queue is full."""
        try:
            self._news.put_nowait(posted)
        except asyncio.QueueFull:
            self.cut = True
        self._wake.set()

    def end(self) -> None:
        """Cut the listener: the service stops."""
        self.cut = True
        self._wake.set()

    async def next(self, wait: float) -> Posted | None:
        """Return the next document, or None after `wait` seconds or when cut."""
        if not self.cut and self._news.empty():
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                return None
        return None if self.cut else self._news.get_nowait()


class Board:
    """What is in force in each scope, as far as this replica knows."""

    def __init__(self) -> None:
        self._posted: dict[str, Posted] = {}
        self._listeners: dict[str, set[Listener]] = {}
        self._count = 0
        self._closed = False
        self._cut = counter("switch_service.listeners_cut", "{listener}")
        gauge("switch_service.listeners", "{listener}", self._listening)

    def __getitem__(self, scope: str) -> Posted | None:
        """Return the document of a scope, or None if there is none."""
        return self._posted.get(scope)

    def cursors(self) -> Mapping[str, tuple[int, int]]:
        """Return epoch and version of each scope."""
        return {scope: posted.cursor for scope, posted in self._posted.items()}

    def posted(self) -> Iterator[Posted]:
        """Go through all documents."""
        return iter(tuple(self._posted.values()))

    def post(self, envelope: Envelope) -> bool:
        """Put up a document and tell whoever waits; return whether it is later than the one that was there."""
        there = self._posted.get(envelope.scope)
        if there is not None and envelope.cursor <= there.cursor:
            return False
        posted = Posted(envelope=envelope, body=envelope.to_bytes(), etag=envelope.etag)
        self._posted[envelope.scope] = posted
        for listener in tuple(self._listeners.get(envelope.scope, ())):
            listener.tell(posted)
            if listener.cut:
                self._cut.n += 1
        return True

    def drop(self, scope: str) -> None:
        """Take a document away that the database no longer has."""
        self._posted.pop(scope, None)

    @contextmanager
    def listening(self, scope: str) -> Generator[Listener, None, None]:
        """Hear of each document of a scope within the block.

        Raises:
            BulkheadFull: 10,000 listen already.
        """
        if self._count >= MOST_LISTENERS:
            raise BulkheadFull(f"{MOST_LISTENERS:,} listen to this replica; ask without waiting", retry_after=10.0)
        listener = Listener()
        self._count += 1
        self._listeners.setdefault(scope, set()).add(listener)
        if self._closed:
            listener.end()
        try:
            yield listener
        finally:
            self._count -= 1
            among = self._listeners[scope]
            among.discard(listener)
            if not among:
                del self._listeners[scope]

    def close(self) -> None:
        """Let everybody go who waits."""
        self._closed = True
        for among in self._listeners.values():
            for listener in among:
                listener.end()

    def _listening(self) -> float:
        return float(self._count)
