"""One Redis server as the limiter sees it: a budget, a gate, its clock, and connections of both makes."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ....forks import Guard, renew_in_child
from ...backend import StoreFailed
from ...gate import Gate
from .connection import Pool
from .lane import Lane
from .settings import Settings
from .wire import command, raised

__all__ = ["Store"]

_LATE = -1


class Store:
    """A server, and a hard budget for each call to it, connecting and waiting for a connection included.

    Every call carries the moment after which the server must not charge any more, in the server's own time.
    A call that was reported as timed out is therefore never charged later; only when the server answered in
    time and its reply was lost is it unknown whether the tokens are gone.

    Limiters of one process that name the same server share one store, and so its connections and its gate.
    """

    def __init__(
        self, settings: Settings, *, budget: float, clock: Clock = monotonic, gate: Gate | None = None
    ) -> None:
        if not 0.001 <= budget <= 10:
            raise Misuse(f"budget must be from 0.001 to 10 s, got {budget!r}")
        self.settings = settings
        self.budget = budget
        self.clock = clock
        self.gate = gate or Gate(f"redis store {settings}", clock=clock)
        self._ahead: int | None = None  # the server's microseconds minus ours: at most the true difference
        self._pool = Pool(settings, clock, self.hear)
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        renew_in_child(self)

    @classmethod
    def shared(cls, store: object, budget: float) -> Store:
        """Return the process's store for a URL or client, made at the first call."""
        settings = Settings.of(store)
        with _guard.lock:
            found = _stores.get((settings, budget))
            if found is None:
                found = _stores[settings, budget] = cls(settings, budget=budget)
            return found

    # --- the server's clock --------------------------------------------------------------------------

    def hear(self, server_us: int) -> None:
        """Learn the server's clock from a stamp that was just received.

        The stamp is older than its arrival, so the moments computed from it are early, never late.
        """
        if server_us:
            self._ahead = server_us - int(self.clock() * 1_000_000)

    def not_after(self, deadline: float) -> int:
        """Return `deadline` in the server's microseconds, 0 while its clock is not known."""
        return 0 if self._ahead is None else int(deadline * 1_000_000) + self._ahead

    def settle(self, failure: StoreFailed | None) -> None:
        """Tell the gate how a call ended. An error reply is an answer: the server is up, and quick."""
        if failure is not None and failure.reason != "reply":
            self.gate.failed(f"{failure.reason}: {failure}")
        elif self.gate.troubled:
            self.gate.passed()

    # --- calls ---------------------------------------------------------------------------------------

    def enter(self) -> float:
        """Return the deadline of a call that starts now.

        Raises:
            StoreFailed: the gate is shut.
        """
        if self.gate.shut and not self.gate.enter():
            raise StoreFailed("gate", f"{self.gate.name} does not answer and is left alone for a while")
        return self.clock() + self.budget

    def ask(self, body: bytes, borrowed: Callable[[], bytes], deadline: float) -> list[int]:
        """Run the script in the calling thread and return its reply.

        Raises:
            StoreFailed: no usable reply by the deadline.
        """
        whole = False
        while True:
            pool = self._pool
            connection = pool.take(deadline)
            try:
                reply = connection.call(self._encode(body, borrowed, deadline, whole), deadline)
            except BaseException:
                pool.drop(connection)
                raise
            if _is_demoted(reply):
                pool.drop(connection)
            else:
                pool.give_back(connection, self.clock())
            answer = self._answer(reply)
            if answer is not None:
                return answer
            whole = whole or isinstance(reply, Exception)

    async def ask_async(self, body: bytes, borrowed: Callable[[], bytes], deadline: float) -> list[int]:
        """Run the script over the running loop's lane and return its reply."""
        whole = False
        lane = self._lane()
        while True:
            encode = partial(self._encode, body, borrowed, deadline, whole)
            reply = await lane.submit(encode, deadline)
            if _is_demoted(reply):
                lane.end("connection", "the server is no primary any more")
            answer = self._answer(reply)
            if answer is not None:
                return answer
            whole = whole or isinstance(reply, Exception)

    def _encode(self, body: bytes, borrowed: Callable[[], bytes], deadline: float, whole: bool) -> bytes:
        return command(body, self.not_after(deadline), borrowed(), whole=whole)

    def _answer(self, reply: Any) -> list[int] | None:
        """Return the script's answer, or None where asking again is safe and useful: nothing was executed."""
        if isinstance(reply, Exception):
            if str(reply).startswith("NOSCRIPT"):
                return None
            raise raised(reply)
        answer: list[int] = reply
        self.hear(answer[3])
        # Late by the server's clock although our time is not over: our idea of its clock was old, and is mended.
        return None if answer[0] == _LATE else answer

    def _lane(self) -> Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            for ended in [known for known in tuple(self._lanes) if known.is_closed()]:
                self._lanes.pop(ended, None)
            lane = self._lanes[loop] = Lane(
                self.settings, loop, budget=self.budget, learned=self.hear, clock=self.clock
            )
        return lane

    # --- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the blocking connections at rest; the store may be used again."""
        self._pool.clear()

    async def aclose(self) -> None:
        """Close the running loop's connection; the store may be used again."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is not None:
            lane.close()
            await asyncio.sleep(0)  # the transport lets go of its socket in the next turn

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child."""
        self._pool = Pool(self.settings, self.clock, self.hear)
        self._lanes = {}


def _is_demoted(reply: Any) -> bool:
    """Return whether the server became a replica: the next connection, by name, may lead to the new primary."""
    return isinstance(reply, Exception) and str(reply).startswith(("READONLY", "MASTERDOWN"))


_guard = Guard()
_stores: weakref.WeakValueDictionary[tuple[Settings, float], Store] = weakref.WeakValueDictionary()
