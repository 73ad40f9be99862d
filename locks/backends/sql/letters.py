"""The place of a waiter where a store sends no notes: it says when to look again.

Those who wait look again after a pause that grows from 5 ms to 100 ms, and more the further back they stand, so that
five hundred of them ask about two hundred times a second together. A release in the same process wakes the first of
them at once.
"""

from __future__ import annotations

from backstay.locks.backend import Note
from backstay.locks.claims import Resource
from backstay.runtime import Runtime, Signal

__all__ = ["Letters", "PollingLetter"]

SHORTEST, LONGEST, GROWTH = 0.005, 0.1, 1.6  # s, s, factor
STEP = 4  # places in the queue that cost one more LONGEST
ADDRESS = "asks"  # what the queue's entries have for an address


class PollingLetter:
    """A waiter's place."""

    __slots__ = ("_letters", "_pause", "_runtime", "_signal", "_token", "address", "place", "resource")

    def __init__(self, runtime: Runtime, letters: Letters, token: str) -> None:
        self._runtime, self._letters, self._token = runtime, letters, token
        self._pause = SHORTEST
        self._signal: Signal | None = None
        self.address = ADDRESS
        self.resource: Resource | None = None
        self.place = 0

    def stands(self, resource: Resource, place: int) -> None:
        """Note where the waiter stands in the queue; one who has become the first looks more often again."""
        if place < self.place and place == 0:
            self._pause = SHORTEST
        self.resource, self.place = resource, place

    async def wait(self, timeout: float) -> Note | None:
        """Wait until it is time to look again; there never is a note."""
        if self._signal is None:
            self._signal = self._runtime.signal()
        pause = self._pause * self._runtime.uniform(0.7, 1.0)
        self._pause = min(self._pause * GROWTH, LONGEST * (1.0 + self.place / STEP))
        if await self._signal.wait(min(pause, timeout)):
            self._pause = SHORTEST
        self._signal.clear()
        return None

    def wake(self) -> None:
        """Let the waiter look now; from any thread."""
        if self._signal is not None:
            self._signal.set()

    def close(self) -> None:
        self._letters.drop(self._token)


class Letters:
    """The waiters of one backend."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: dict[str, PollingLetter] = {}

    def write(self, token: str) -> PollingLetter:
        """Return a place for the waiter with this token."""
        letter = self._open[token] = PollingLetter(self._runtime, self, token)
        return letter

    def stands(self, token: str, resource: Resource, place: int) -> None:
        """Note where a waiter stands."""
        letter = self._open.get(token)
        if letter is not None:
            letter.stands(resource, place)

    def wake(self, resource: Resource) -> None:
        """Wake the waiter of this process that stands foremost: something came free."""
        waiting = [letter for letter in list(self._open.values()) if letter.resource == resource]
        if waiting:
            min(waiting, key=lambda letter: letter.place).wake()

    def wake_all(self) -> None:
        """Let everybody look again."""
        for letter in list(self._open.values()):
            letter.wake()

    def drop(self, token: str) -> None:
        """Forget a waiter."""
        self._open.pop(token, None)

    def forked(self) -> None:
        """Forget all of them: their threads are the parent's."""
        self._open = {}
