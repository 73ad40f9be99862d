"""Where waiters hear that somebody before them left; filled by kazoo's thread of watch events.

One function watches for all: kazoo keeps a watch per node and function, the server one per node and session. So a
waiter that gives up leaves nothing that grows (S6), and what comes for nobody is ignored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from backstay.locks.backend import Note
from backstay.runtime import Runtime

from .client import Event

__all__ = ["Letter", "Letters"]


class Letter:
    """One waiter's place. Nothing is handed over here: whoever is woken lists again and finds out (Z3)."""

    __slots__ = ("_box", "_signal", "address")

    def __init__(self, box: Letters, runtime: Runtime, token: str) -> None:
        self._box, self.address = box, token
        self._signal = runtime.signal()

    async def wait(self, timeout: float) -> Note | None:
        await self._signal.wait(timeout)
        self._signal.clear()  # what is raised from here on is for the look after the next one
        return None

    def wake(self) -> None:
        """Let the waiter look again; from any thread."""
        self._signal.set()

    def close(self) -> None:
        self._box.drop(self.address)


class Letters:
    """The places of all waiters of a backend, and the nodes that they watch."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everybody; in a forked child they are threads of the parent."""
        self._mutex = threading.Lock()  # a real one in both makes: kazoo's threads come here
        self._letters: dict[str, Letter] = {}
        self._watching: dict[str, set[str]] = {}
        self._watched_by: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def watched(self) -> int:
        """How many nodes somebody watches."""
        return len(self._watching)

    def letter(self, token: str) -> Letter:
        """Return a place for `token`."""
        letter = Letter(self, self._runtime, token)
        with self._mutex:
            self._letters[token] = letter
        return letter

    def watch(self, token: str, paths: Iterable[str]) -> None:
        """Wake `token` when something happens to one of `paths`; said before the watch is asked for."""
        with self._mutex:
            for path in paths:
                self._watching.setdefault(path, set()).add(token)
                self._watched_by.setdefault(token, set()).add(path)

    def drop(self, token: str) -> None:
        """Give a place up."""
        with self._mutex:
            self._letters.pop(token, None)
            for path in self._watched_by.pop(token, ()):
                tokens = self._watching.get(path)
                if tokens is not None:
                    tokens.discard(token)
                    if not tokens:
                        del self._watching[path]

    def happened(self, event: Event) -> None:
        """Take an event of a watch; called by kazoo's thread."""
        if event.path is None:  # the connection went, and all watches with it
            self.wake_all()
            return
        with self._mutex:
            woken = [self._letters[token] for token in self._watching.pop(event.path, ()) if token in self._letters]
        for letter in woken:
            letter.wake()

    def wake_all(self) -> None:
        """Let everybody look again."""
        with self._mutex:
            self._watching.clear()
            self._watched_by.clear()
            woken = list(self._letters.values())
        for letter in woken:
            letter.wake()
