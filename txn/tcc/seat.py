"""The coordinator's lease: taken at first use, renewed in the background, replaced when it was lost."""

from __future__ import annotations

from collections.abc import Callable

from backstay.errors import Misuse
from backstay.runtime import Runtime, Signal

from ..journal import Journal, Lease

__all__ = ["Seat"]


class Seat:
    """Holds the lease of one process."""

    def __init__(
        self, *, journal: Journal, runtime: Runtime, owner: str, ttl: float, started: Callable[[], None]
    ) -> None:
        self.owner = owner
        self._journal = journal
        self._runtime = runtime
        self._ttl = ttl
        self._started = started
        self._lease: Lease | None = None
        self._epoch = 0
        self._ahead = 0.0
        self._prepared = False
        self._closed = False
        self._joining: Signal | None = None
        self._mutex = runtime.mutex()

    @property
    def lease(self) -> Lease | None:
        """The lease, if one is held."""
        return self._lease

    def time(self) -> float:
        """Return the journal's time in seconds, as far as this process knows it."""
        return self._runtime.now() + self._ahead

    async def take(self) -> Lease:
        """Return the lease; the first caller prepares the journal and joins, the others wait for it.

        Raises:
            Misuse: the seat was closed.
        """
        while True:
            if self._closed:
                raise Misuse("this transaction manager is closed; connect another")
            if (lease := self._lease) is not None:
                return lease
            mine = self._runtime.signal()
            with self._mutex:
                waiting = self._joining
                self._joining = waiting or mine
            if waiting is not None:
                await waiting.wait()
                continue
            try:
                return await self._join()
            finally:
                with self._mutex:
                    self._joining = None
                mine.set()

    async def _join(self) -> Lease:
        if self._lease is not None:  # another caller has joined between our two looks
            return self._lease
        if not self._prepared:
            await self._journal.prepare()
            self._prepared = True
        lease = await self._journal.join(self.owner, self._epoch + 1, self._ttl)
        self._ahead = await self._journal.time() - self._runtime.now()
        with self._mutex:
            taken = not self._closed
            if taken:
                self._epoch, self._lease = lease.epoch, lease
        if not taken:  # closed meanwhile: whoever closed found no lease to give back
            await self._journal.leave(lease)
            raise Misuse("this transaction manager was closed while it joined its journal; connect another")
        self._started()
        return lease

    async def renew(self) -> bool:
        """Renew the lease if there is one; a lost lease is forgotten, and the next transaction takes another."""
        lease = self._lease
        if lease is None:
            return True
        if await self._journal.renew(lease, self._ttl):
            return True
        with self._mutex:
            if self._lease == lease:
                self._lease = None
        return False

    def close(self) -> None:
        """Give no lease to anybody from now on: nobody would renew it or give it back."""
        with self._mutex:
            self._closed = True

    async def leave(self) -> None:
        """Give the lease back, so that nobody waits for its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._journal.leave(lease)
