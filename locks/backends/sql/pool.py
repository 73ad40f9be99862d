"""The connections of locks: few, our own, outside any pool of the application and inside none of its transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from backstay.clock import monotonic
from backstay.errors import Misuse, Unavailable
from backstay.locks import fork
from backstay.url import mask

from .wires import Wire

__all__ = ["Pool", "inherit"]

_inherited: list[Wire] = []
"""Connections of the parent in a forked child: kept, since to collect one might close it for the parent too."""


def inherit(wire: Wire) -> None:
    """Keep, in a forked child, a connection of the parent."""
    _inherited.append(wire)


class Pool:
    """At most `size` connections; they are made when needed, and the one that was used last is used next.

    Args:
        label: what errors call the database, secrets masked.
        connect: returns a new wire; may take long.
        size: how many there may be at the same time.
    """

    def __init__(self, label: str, connect: Callable[[], Wire], size: int) -> None:
        self.label, self._connect, self._size = label, connect, size
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._idle: list[Wire] = []
        self._room = threading.Semaphore(self._size)
        self.prepared = False

    def take(self, until: float) -> Wire:
        """Return a connection for one exchange, to be given back or dropped.

        Raises:
            Unavailable: there was none until then.
        """
        left = until - monotonic()
        if not self._room.acquire(timeout=max(0.0, left)):
            raise Unavailable(f"{self.label}: all {self._size} connections of locks were busy all the time")
        with self._mutex:
            wire = self._idle.pop() if self._idle else None
        return wire if wire is not None else self._make(until)

    def give(self, wire: Wire) -> None:
        """Take a connection back."""
        if wire.broken:
            self.drop(wire)
            return
        with self._mutex:
            self._idle.append(wire)
        self._room.release()

    def drop(self, wire: Wire) -> None:
        """Close a connection that is of no use any more."""
        wire.close()
        self._room.release()

    def close(self) -> None:
        """Close the idle connections; others close theirs when they come back. A closed pool opens again when used."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def forked(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        _inherited.extend(self._idle)
        self._begin()

    def _make(self, until: float) -> Wire:
        """Connect in a thread of its own: drivers know no deadline while they connect, and the caller has one."""
        connecting = _Connecting(self._connect, self._room)
        try:
            threading.Thread(target=connecting.run, name="backstay-locks-connect", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            raise Unavailable(f"{self.label}: no thread to connect in: {error}") from error
        made = connecting.result(max(0.0, until - monotonic()))
        if isinstance(made, Wire):
            return made
        if isinstance(made, Misuse):
            raise made
        told = "it did not answer in time" if made is None else mask(str(made))[:500]
        raise Unavailable(f"{self.label} could not be reached: {told}") from made


class _Connecting:
    """A connection on its way. One that comes too late is closed, and only then is there room for another."""

    def __init__(self, connect: Callable[[], Wire], room: threading.Semaphore) -> None:
        self._connect, self._room = connect, room
        self._mutex = threading.Lock()
        self._done = threading.Event()
        self._made: Wire | Exception | None = None
        self._given_up = False

    def run(self) -> None:
        made: Any
        try:
            made = self._connect()
        except Exception as error:
            made = error
        with self._mutex:
            self._made = made
            late = self._given_up
        self._done.set()
        if late and isinstance(made, Wire):
            made.close()
        if late or not isinstance(made, Wire):
            self._room.release()

    def result(self, timeout: float) -> Wire | Exception | None:
        """Return the connection, the error, or None when the time is up."""
        try:
            self._done.wait(timeout)
        except BaseException:
            self._abandon()
            raise
        with self._mutex:
            if self._made is None:
                self._given_up = True
            return self._made

    def _abandon(self) -> None:
        with self._mutex:
            self._given_up, made = True, self._made
        if isinstance(made, Wire):
            made.close()
            self._room.release()
