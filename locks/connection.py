"""A store of locks, connected: where mutexes and guards come from."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from backstay.blocking import drive

from . import ending, fork
from .coordination import AsyncCoordination, BlockingCoordination
from .elections.standing import Standing
from .factories import Faces, Recipes
from .leases.hand_over import attached
from .leases.handle import AsyncLease, Lease
from .leases.keepers import announce_keeper, drop_closed, keeper, keeper_of
from .leases.kept import async_lease_of, lease_of
from .leases.protocol import LeaseProtocol
from .levels import Level
from .operations import AsyncOperations, BlockingOperations
from .options import Duration
from .owners import this_process
from .recipes.multi import AsyncMulti, Multi
from .recipes.mutex import AsyncMutex, Mutex, Reach
from .recipes.read_write import AsyncReadWrite, ReadWrite
from .recipes.reentrant import AsyncReentrantMutex, Holds, ReentrantMutex
from .recipes.segmented import AsyncSegmented, Segmented
from .recipes.semaphore import AsyncSemaphore, Semaphore
from .source import ASYNCIO, BLOCKING, Source, checked_source
from .telemetry import Meters

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from kazoo.client import KazooClient
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncLocks", "Locks"]


class Locks(Recipes[Mutex, ReadWrite, Semaphore, Segmented, Multi], BlockingCoordination, BlockingOperations):
    """Distributed locks for threads.

        locks = Locks.connect("redis://localhost/0", namespace="shop")
        with locks.mutex("order:42", ttl=10, wait=5) as lease: ...
        @locks.guard("stock:{product_id}")
        def sell(product_id: int) -> None: ...

    What is guaranteed: at most one *valid* lease for a name at a time, as long as clocks differ by less than 1 %
    in rate and the store does not lose what it acknowledged (a failed-over Redis may); fences that rise with
    every grant; news of a loss before another can be granted. What is not: that a process which was stopped
    notices in time. Check the fence at the resource.
    """

    _faces = Faces(
        mutex=Mutex.named,
        reentrant=ReentrantMutex.held_in,
        read_write=ReadWrite,
        semaphore=Semaphore.named,
        segmented=Segmented,
        multi=Multi,
    )

    def __init__(self, store: Source, namespace: str) -> None:
        self._source, self._namespace = store, namespace
        self._meters = Meters(store.kind, namespace)
        self._protocol = protocol = LeaseProtocol(BLOCKING, store.blocking(), keeper, this_process, self._meters)
        self._reach = lambda: protocol
        self._holds = Holds()
        self._standing = Standing()
        self._twin: AsyncLocks | None = None
        fork.watch(self)
        ending.watch(self)
        announce_keeper()

    @classmethod
    def connect(
        cls,
        target: str | redis.Redis | redis.asyncio.Redis | Sequence[object] | Engine | AsyncEngine | KazooClient,
        *,
        namespace: str = "default",
        answer_within: Duration | None = None,
        require: Level | None = None,
        min_replicas: int | None = None,
        eviction: Literal["allow"] | None = None,
    ) -> Locks:
        """Name the store; nothing is sent yet.

        Args:
            target: `memory://`, `redis://host:port/db`, `rediss://`, `unix:///path`, `redis+sentinel://`,
                `redis+cluster://`, `redis+quorum://`, `zookeeper://`, `sqlite:///path`, `postgresql+psycopg://`,
                `mysql+pymysql://`, `advisory+postgresql+psycopg://`, or a client or engine whose connection settings
                are copied (a Redis client itself is never used: it retries by itself and knows no deadline; nor is an
                engine's pool, which locks could starve). A `KazooClient` is used as it is, and never closed. Several
                URLs or clients of independent Redis masters make a quorum.
            namespace: what this application's keys begin with; 1 to 64 letters, digits, `.`, `_`, `-`.
            answer_within: seconds that one exchange with the store may take; default the client's or URL's
                `socket_timeout`, else 2.
            require: the least that the store must guarantee: `efficiency`, `lease`, `fenced` or `transactional`.
            min_replicas: replicas of a Redis that must have a grant before it counts; it narrows what a failover can
                lose, and does not rule it out.
            eviction: "allow" goes on, with a warning, where Redis may evict the keys of locks; otherwise it is refused.

        Raises:
            Misuse: the target is malformed, of an unknown kind, or guarantees less than is required.
            MissingExtra: the package for it is not installed.
        """
        return cls(
            *checked_source(target, namespace, answer_within, require, min_replicas=min_replicas, eviction=eviction)
        )

    def _reached(self) -> Reach:
        return self._reach

    def _blocking(self) -> Locks:
        return self

    def _asynchronous(self) -> AsyncLocks:
        if self._twin is None:
            self._twin = AsyncLocks(self._source, self._namespace)
        return self._twin

    def attach(self, text: str, *, renew: bool = True) -> Lease:
        """Go on with a lease that was detached elsewhere: the same lock, the same fence, nobody in between.

        What comes back is the kind of lease that it was, and can be used with `with`. A text is to be attached once:
        whoever attaches it again holds it as well.

        Args:
            text: what `lease.detach()` returned.
            renew: renew it every ttl/3 while it is held.

        Raises:
            Misuse: it is no such text, or was attached in this process already.
            LockLost: it ended on the way, or belongs to another store or namespace.
            Unavailable, OutcomeUnknown: the store did not answer; attaching again is safe.
        """
        frame = sys._getframe(1)
        grant = drive(attached(self._protocol, text, renew))
        return lease_of(self._protocol, grant, (frame.f_code, frame.f_lineno))

    def close(self) -> None:
        """Announce the loss of every lease still held here, give it back, and drop the connections."""
        ending.forget(self)
        self._standing.close()
        drive(self._protocol.close())
        if self._twin is not None:
            self._twin.forsake()

    def __enter__(self) -> Locks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._namespace!r} at {self._protocol.backend.label}>"

    def forked(self) -> None:
        """Run in a forked child: what belongs to the parent is dropped."""
        self._standing.forget()
        self._protocol.backend.forked()
        announce_keeper()


class AsyncLocks(
    Recipes[AsyncMutex, AsyncReadWrite, AsyncSemaphore, AsyncSegmented, AsyncMulti],
    AsyncCoordination,
    AsyncOperations,
):
    """Distributed locks for asyncio; one object serves any number of event loops, one after the other or at once.

        locks = AsyncLocks.connect("redis://localhost/0", namespace="shop")
        async with locks.mutex("order:42", ttl=10, wait=5) as lease: ...
        @locks.guard("stock:{product_id}")
        async def sell(product_id: int) -> None: ...

    What is guaranteed and what is not: as for `Locks`.
    """

    _faces = Faces(
        mutex=AsyncMutex.named,
        reentrant=AsyncReentrantMutex.held_in,
        read_write=AsyncReadWrite,
        semaphore=AsyncSemaphore.named,
        segmented=AsyncSegmented,
        multi=AsyncMulti,
    )

    def __init__(self, store: Source, namespace: str) -> None:
        self._source, self._namespace = store, namespace
        self._meters = Meters(store.kind, namespace)
        self._protocols: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LeaseProtocol]
        self._protocols = weakref.WeakKeyDictionary()
        self._holds = Holds()
        self._standing = Standing()
        self._twin: Locks | None = None
        self._closed = False
        fork.watch(self)

    @classmethod
    def connect(
        cls,
        target: str | redis.Redis | redis.asyncio.Redis | Sequence[object] | Engine | AsyncEngine | KazooClient,
        *,
        namespace: str = "default",
        answer_within: Duration | None = None,
        require: Level | None = None,
        min_replicas: int | None = None,
        eviction: Literal["allow"] | None = None,
    ) -> AsyncLocks:
        """Name the store; nothing is sent yet.

        Args:
            target: `memory://`, `redis://host:port/db`, `rediss://`, `unix:///path`, `redis+sentinel://`,
                `redis+cluster://`, `redis+quorum://`, `zookeeper://`, `sqlite:///path`, `postgresql+psycopg://`,
                `mysql+pymysql://`, `advisory+postgresql+psycopg://`, or a client or engine whose connection settings
                are copied (a Redis client itself is never used: it retries by itself and knows no deadline; nor is an
                engine's pool, which locks could starve). A `KazooClient` is used as it is, and never closed. Several
                URLs or clients of independent Redis masters make a quorum.
            namespace: what this application's keys begin with; 1 to 64 letters, digits, `.`, `_`, `-`.
            answer_within: seconds that one exchange with the store may take; default the client's or URL's
                `socket_timeout`, else 2.
            require: the least that the store must guarantee: `efficiency`, `lease`, `fenced` or `transactional`.
            min_replicas: replicas of a Redis that must have a grant before it counts; it narrows what a failover can
                lose, and does not rule it out.
            eviction: "allow" goes on, with a warning, where Redis may evict the keys of locks; otherwise it is refused.

        Raises:
            Misuse: the target is malformed, of an unknown kind, or guarantees less than is required.
            MissingExtra: the package for it is not installed.
        """
        return cls(
            *checked_source(target, namespace, answer_within, require, min_replicas=min_replicas, eviction=eviction)
        )

    def _reached(self) -> Reach:
        return self._protocol

    def _asynchronous(self) -> AsyncLocks:
        return self

    def _blocking(self) -> Locks:
        if self._twin is None:
            self._twin = Locks(self._source, self._namespace)
        return self._twin

    def _protocol(self) -> LeaseProtocol:
        """Return the protocol of the running loop."""
        loop = asyncio.get_running_loop()
        protocol = self._protocols.get(loop)
        if protocol is None:
            drop_closed(self._protocols)
            backend = self._source.asynchronous()
            protocol = LeaseProtocol(ASYNCIO, backend, keeper_of(loop), this_process, self._meters)
            protocol.closed = self._closed
            self._protocols[loop] = protocol
        return protocol

    async def attach(self, text: str, *, renew: bool = True) -> AsyncLease:
        """Go on with a lease that was detached elsewhere: the same lock, the same fence, nobody in between.

        What comes back is the kind of lease that it was, and can be used with `with`. A text is to be attached once:
        whoever attaches it again holds it as well.

        Args:
            text: what `lease.detach()` returned.
            renew: renew it every ttl/3 while it is held.

        Raises:
            Misuse: it is no such text, or was attached in this process already.
            LockLost: it ended on the way, or belongs to another store or namespace.
            Unavailable, OutcomeUnknown: the store did not answer; attaching again is safe.
        """
        frame, protocol = sys._getframe(1), self._protocol()
        grant = await attached(protocol, text, renew)
        return async_lease_of(protocol, grant, (frame.f_code, frame.f_lineno))

    async def close(self) -> None:
        """Announce the loss of every lease still held here, give it back, and drop the connections."""
        await self._standing.aclose()
        self.forsake()
        await self._protocol().close()
        if self._twin is not None:
            self._twin.close()

    def forsake(self) -> None:
        """Let no loop acquire here again; leases still held in a loop run out there."""
        self._closed = True
        for protocol in list(self._protocols.values()):
            protocol.closed = True

    async def __aenter__(self) -> AsyncLocks:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._namespace!r} at {self._source.kind}>"

    def forked(self) -> None:
        """Run in a forked child: what belongs to the parent is dropped."""
        self._standing.forget()
        self._protocols = weakref.WeakKeyDictionary()
