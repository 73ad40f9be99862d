"""What an elected leader holds: its term, and news of its end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from backstay.blocking import drive
from backstay.runtime import Runtime

from ..errors import LockLost
from ..leases.lease import Grant
from ..leases.loss import AsyncLoss, Loss

__all__ = ["AsyncLeadership", "AsyncOver", "Leadership", "Over"]

Listener = Callable[[], object]


class _Over:
    """What both makes share: the end of a leadership, since its lease is lost or since it was asked to resign."""

    __slots__ = ("_grant", "_listeners", "_loss", "_runtime", "_signal", "asked")

    def __init__(self, runtime: Runtime, grant: Grant, loss: Loss | AsyncLoss) -> None:
        self._runtime, self._grant, self._loss = runtime, grant, loss
        self._signal = runtime.signal()
        self._listeners: list[Listener] = []
        self.asked = False
        loss.call(self._tell)

    def is_set(self) -> bool:
        """Return whether the leader must stop; computed, so it is true in time even where nothing else runs (C3)."""
        return self.asked or not self._grant.valid(self._runtime.now())

    def ask(self) -> None:
        """Ask the leader to resign."""
        self.asked = True
        self._tell()

    def call(self, listener: Listener) -> None:
        """Call `listener` when the leader must stop, at once where it must already; it returns at once."""
        self._listeners.append(listener)
        if self.asked or self._signal.is_set():
            self._tell()

    def _tell(self) -> None:
        self._signal.set()
        while self._listeners:
            try:
                listener = self._listeners.pop(0)
            except IndexError:  # another thread took it
                return
            listener()


class Over(_Over):
    """The event that a leader in a thread looks at: `is_set()`, `wait(timeout)`, `call(function)`."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the leader must stop, at most `timeout` seconds; return whether it must."""
        drive(self._signal.wait(timeout))
        return self.is_set()


class AsyncOver(_Over):
    """The event of a leader in asyncio: `is_set()`, `await over`, `await over.wait(timeout)`, `call(function)`."""

    __slots__ = ()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the leader must stop, at most `timeout` seconds; return whether it must."""
        await self._signal.wait(timeout)
        return self.is_set()

    def __await__(self) -> Generator[Any, Any, bool]:
        return self.wait().__await__()


class _Leadership:
    """What can be asked of a leadership without asking the store."""

    __slots__ = ("_grant", "_over", "_runtime", "candidate", "name")

    def __init__(self, runtime: Runtime, grant: Grant, name: str, candidate: str, over: Over | AsyncOver) -> None:
        self._runtime, self._grant, self.name, self.candidate = runtime, grant, name, candidate
        self._over = over

    @property
    def term(self) -> int:
        """The number of this term, higher than that of every earlier leader; hand it to what the leader writes to."""
        return self._grant.fence

    @property
    def fence(self) -> int:
        """The same number, under the name that guards of a resource know."""
        return self._grant.fence

    def is_valid(self) -> bool:
        """Return whether the leader may go on: computed from the clock when it is asked, never remembered (X4)."""
        return not self._over.asked and self._grant.valid(self._runtime.now())

    def check(self) -> None:
        """Raise `LockLost` unless the leader may go on."""
        now = self._runtime.now()
        if not self._grant.valid(now):
            raise self._grant.lost(now)
        if self._over.asked:
            raise LockLost(
                f"election {self.name!r} (term {self.term}): the leader was asked to resign; stop and return",
                lock=self.name,
                fence=self.term,
                reason="resigned",
            )

    def __repr__(self) -> str:
        state = "resigning" if self._over.asked else self._grant.state.value
        return f"<{type(self).__name__} of election {self.name!r} term={self.term} {state}>"


class Leadership(_Leadership):
    """One term of a leader in a thread: look at `lost` or call `check()` often, and return when it is over."""

    __slots__ = ()

    _over: Over

    @property
    def lost(self) -> Over:
        """The event that tells that the leader must stop: the lease is lost, or it was asked to resign."""
        return self._over


class AsyncLeadership(_Leadership):
    """One term of a leader in asyncio: its task is cancelled when it is over."""

    __slots__ = ()

    _over: AsyncOver

    @property
    def lost(self) -> AsyncOver:
        """The event that tells that the leader must stop: the lease is lost, or it was asked to resign."""
        return self._over
