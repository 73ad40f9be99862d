"""News of a loss: an event, a callback, and in asyncio something to await."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from inspect import isawaitable
from typing import Any

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.runtime import Job, Runtime

from .lease import LOST, Grant

__all__ = ["AsyncLoss", "Loss", "wait_for_listeners"]

Listener = Callable[[], object]

_under_way: set[Job] = set()  # threads in which listeners may still run


def wait_for_listeners(timeout: float) -> None:
    """Wait for the end of all listeners that run in threads, at most `timeout` seconds together.

    For the end of an interpreter: a daemon thread that is in the middle of a `print` then is a fatal error.
    """
    until = monotonic() + timeout
    for job in tuple(_under_way):
        drive(job.join(max(0.0, until - monotonic())))
        _under_way.discard(job)


class _News:
    """What both makes share. Made when somebody first asks for it, so that a lock without listeners pays nothing."""

    __slots__ = ("_grants", "_listeners", "_runtime", "_signal", "_told")

    def __init__(self, runtime: Runtime, *grants: Grant) -> None:
        self._runtime, self._grants = runtime, grants
        self._signal = runtime.signal()
        self._listeners: list[Listener] = []
        self._told = False
        for grant in grants:
            grant.notice = self._tell
        if any(grant.state is LOST for grant in grants):  # it went while we were being made
            self._tell()

    def is_set(self) -> bool:
        """Return whether the lease is lost; computed, so it is true in time even where nothing else runs (C3)."""
        now = self._runtime.now()
        return any(
            grant.state is LOST or (grant.state.value == "held" and now >= grant.deadline) for grant in self._grants
        )

    def call(self, listener: Listener) -> None:
        """Call `listener` once when the lease is lost, beside the holder's work; at once where it is lost already.

        It runs in a thread (or task) of its own, never in one that serves other locks. In asyncio it may be a
        coroutine function.
        """
        self._listeners.append(listener)
        if self._told:
            self._start_listeners()

    def _tell(self) -> None:
        self._signal.set()
        if any(grant.state is LOST for grant in self._grants):
            self._told = True
            self._start_listeners()

    def _start_listeners(self) -> None:
        while self._listeners:
            try:
                listener = self._listeners.pop(0)
            except IndexError:  # another thread took it
                return
            self._start(listener)

    def _start(self, listener: Listener) -> None:
        self._spawn(listener)

    def _spawn(self, listener: Listener) -> Job:
        return self._runtime.spawn(lambda: _call(listener), name="backstay-locks-loss")


async def _call(listener: Listener) -> None:
    outcome = listener()
    if isawaitable(outcome):
        await outcome


class Loss(_News):
    """The event of a lease in threads."""

    __slots__ = ()

    def _start(self, listener: Listener) -> None:
        try:
            job = self._spawn(listener)
        except RuntimeError:  # from Python 3.12 on an ending interpreter starts no thread: this one tells
            drive(_call(listener))
            return
        _under_way.difference_update([earlier for earlier in tuple(_under_way) if earlier.done])
        _under_way.add(job)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the lease is lost or given back, at most `timeout` seconds; return whether it is lost."""
        drive(self._signal.wait(timeout))
        return self.is_set()


class AsyncLoss(_News):
    """The event of a lease in asyncio: `await lease.lost` returns when the lease is lost or given back."""

    __slots__ = ()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the lease is lost or given back, at most `timeout` seconds; return whether it is lost."""
        await self._signal.wait(timeout)
        return self.is_set()

    def __await__(self) -> Generator[Any, Any, bool]:
        waiting: Coroutine[Any, Any, bool] = self.wait()
        return waiting.__await__()
