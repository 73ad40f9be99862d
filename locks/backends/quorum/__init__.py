"""Locks on several independent Redis masters, held by whoever a majority of them grants it to (Redlock).

The guarantee of this store is a *lease*, and with fences, which is the default, *fenced*: at most one valid holder
while fewer than half of the masters fail, none votes again before what it forgot has ended (K4), and clocks run within
1 % of each other. Locks only: no queue, no semaphores. Read `docs/explanation/quorum.md` before choosing it.
"""

from __future__ import annotations

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.locks.backends.redis.answers import Node
from backstay.locks.backends.redis.async_wire import AsyncWire
from backstay.locks.backends.redis.wire import BlockingWire
from backstay.locks.levels import Level

from .backend import QuorumBackend
from .masters import SuspendingMasters
from .restarts import Restarts
from .target import Quorum, quorum_of_each, quorum_of_url
from .threads import BlockingMasters

__all__ = ["Quorum", "QuorumBackend", "QuorumSource", "quorum_of_each", "quorum_of_url"]

BLOCKING, ASYNCIO = BlockingRuntime(), AsyncioRuntime()


class QuorumSource:
    """Several masters that backends of both makes can be had for."""

    kind = "redis-quorum"

    def __init__(self, quorum: Quorum, space: str) -> None:
        self._quorum, self._space = quorum, space
        restarts = Restarts(quorum.max_ttl, eviction=quorum.masters[0].eviction)
        self._nodes = [
            Node(
                settings=each.settings,
                label=each.settings.label,
                patience=quorum.within,
                precautions=restarts,
                connect_within=quorum.within,
            )
            for each in quorum.masters
        ]

    @property
    def guarantee(self) -> Level:
        """What it gives at most."""
        return "fenced" if self._quorum.fence else "lease"

    def blocking(self) -> QuorumBackend:
        """Return a backend for threads."""
        wires = [BlockingWire(node) for node in self._nodes]
        masters = BlockingMasters(wires, [node.label for node in self._nodes], self._quorum.within)
        return self._backend(BLOCKING, masters)

    def asynchronous(self) -> QuorumBackend:
        """Return a backend for the running event loop."""
        return self._backend(ASYNCIO, SuspendingMasters(ASYNCIO, [AsyncWire(node) for node in self._nodes]))

    def _backend(
        self, runtime: BlockingRuntime | AsyncioRuntime, masters: BlockingMasters | SuspendingMasters
    ) -> QuorumBackend:
        quorum = self._quorum
        return QuorumBackend(
            runtime,
            masters,
            self._space,
            quorum.label,
            patience=quorum.patience,
            within=quorum.within,
            fence=quorum.fence,
            max_ttl=quorum.max_ttl,
        )
