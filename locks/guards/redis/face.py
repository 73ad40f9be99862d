"""Guarded keys of Redis, for threads and for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from backstay.blocking import drive
from backstay.locks.guards.token import Fenced
from backstay.locks.options import Duration, checked_namespace

from .line import Part
from .protocol import FencedKeysProtocol
from .source import async_line, line

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = ["AsyncFencedKeys", "FencedKeys"]


class FencedKeys:
    """Keys of Redis that refuse the late writes of earlier holders of their lock.

        keys = FencedKeys.connect("redis://localhost/0", namespace="shop")
        with locks.mutex("cart:7") as lease:
            keys.set(lease, "items", b"...")
            keys.run(lease, add_up, keys=[keys.key("cart:7", "total")], args=[5])      # a Lua script of yours

    What is guaranteed: comparing with the highest fence seen, remembering it and writing are one script, so they
    happen together or not at all, on one node of a Cluster as well. What is not: a Redis that loses its memory, or a
    replica that takes over without the last writes, has forgotten the highest fence together with the values. Writes
    that do not go by here are not seen. The highest fence is kept for ever, about 120 bytes for each lock.

    It serves as a store of fences too (`admit`), for checks of HTTP and Celery.
    """

    def __init__(self, protocol: FencedKeysProtocol) -> None:
        self._protocol = protocol

    @classmethod
    def connect(
        cls, target: str | redis.Redis | redis.RedisCluster, *, namespace: str = "default", answer_within: float = 2.0
    ) -> FencedKeys:
        """Name the server; nothing is sent yet.

        Args:
            target: `redis://`, `rediss://`, `unix://`, a `redis.Redis` (its pool of connections is used) or a
                `redis.RedisCluster` (which may repeat a script by itself when a node fails).
            namespace: what the keys begin with; 1 to 64 letters, digits, `.`, `_`, `-`.
            answer_within: seconds for one answer, where the target is a URL.

        Raises:
            Misuse: the target is malformed or of an unknown kind.
            MissingExtra: redis-py is not installed.
        """
        return cls(FencedKeysProtocol(line(target, answer_within), checked_namespace(namespace)))

    def key(self, name: str, key: str) -> str:
        """Return the whole name at the server of what `set` writes as `key` under the lock `name`."""
        return self._protocol.key(name, key)

    def tag(self, name: str) -> str:
        """Return the hash tag of lock `name`: keys for `run` on a Cluster contain it, as in `f"cart:{tag}"`."""
        return self._protocol.tag(name)

    def set(self, lease: Fenced, key: str, value: Part, *, ttl: Duration | None = None) -> None:
        """Write a value; read it by any client under `key(lease.name, key)`.

        Args:
            lease: a lease or a `FencingToken`.
            key: a name among those of this lock, 1 to 512 characters.
            value: text, bytes or a number.
            ttl: seconds that it lives, None for ever.

        Raises:
            StaleFence: a later holder has written under this lock; nothing is changed.
            Unavailable: the server was not reached; nothing is changed.
            OutcomeUnknown: it did not answer; with the same fence the write may be repeated.
            Misuse: an argument is out of range.
        """
        drive(self._protocol.set(lease, key, value, ttl))

    def delete(self, lease: Fenced, *keys: str) -> int:
        """Delete values and return how many there were; the highest fence stays.

        Raises:
            StaleFence, Unavailable, OutcomeUnknown, Misuse: as for `set`.
        """
        return drive(self._protocol.delete(lease, keys))

    def run(self, lease: Fenced, script: str, *, keys: Sequence[str] = (), args: Sequence[Part] = ()) -> Any:
        """Run a Lua script once the fence has passed, in the same step; return its answer, texts as bytes.

        Args:
            lease: a lease or a `FencingToken`.
            script: its text; `KEYS` and `ARGV` are the ones given here, from 1 on.
            keys: whole names of keys; on a Cluster they contain `tag(lease.name)`.
            args: texts, bytes and numbers.

        Raises:
            StaleFence: a later holder has written under this lock; the script was not run.
            Misuse: the script failed; what it wrote before that stays, as always in Redis.
            Unavailable, OutcomeUnknown: as for `set`.
        """
        return drive(self._protocol.run(lease, script, keys, args))

    def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
            Unavailable, OutcomeUnknown: as for `set`.
        """
        drive(self._protocol.admit(lease))

    def close(self) -> None:
        """Drop the connections, where the target was a URL."""
        drive(self._protocol.line.close())

    def __enter__(self) -> FencedKeys:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncFencedKeys:
    """Keys of Redis that refuse the late writes of earlier holders of their lock, for asyncio.

    What is guaranteed and what is not: as for `FencedKeys`. One object serves one event loop.
    """

    def __init__(self, protocol: FencedKeysProtocol) -> None:
        self._protocol = protocol

    @classmethod
    def connect(
        cls,
        target: str | redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        namespace: str = "default",
        answer_within: float = 2.0,
    ) -> AsyncFencedKeys:
        """Name the server; nothing is sent yet.

        Args:
            target: `redis://`, `rediss://`, `unix://`, a `redis.asyncio.Redis` (its pool of connections is used) or
                a `redis.asyncio.RedisCluster` (which may repeat a script by itself when a node fails).
            namespace: what the keys begin with; 1 to 64 letters, digits, `.`, `_`, `-`.
            answer_within: seconds for one answer, where the target is a URL.

        Raises:
            Misuse: the target is malformed or of an unknown kind.
            MissingExtra: redis-py is not installed.
        """
        return cls(FencedKeysProtocol(async_line(target, answer_within), checked_namespace(namespace)))

    def key(self, name: str, key: str) -> str:
        """Return the whole name at the server of what `set` writes as `key` under the lock `name`."""
        return self._protocol.key(name, key)

    def tag(self, name: str) -> str:
        """Return the hash tag of lock `name`: keys for `run` on a Cluster contain it, as in `f"cart:{tag}"`."""
        return self._protocol.tag(name)

    async def set(self, lease: Fenced, key: str, value: Part, *, ttl: Duration | None = None) -> None:
        """Write a value; read it by any client under `key(lease.name, key)`.

        Args:
            lease: a lease or a `FencingToken`.
            key: a name among those of this lock, 1 to 512 characters.
            value: text, bytes or a number.
            ttl: seconds that it lives, None for ever.

        Raises:
            StaleFence: a later holder has written under this lock; nothing is changed.
            Unavailable: the server was not reached; nothing is changed.
            OutcomeUnknown: it did not answer; with the same fence the write may be repeated.
            Misuse: an argument is out of range.
        """
        await self._protocol.set(lease, key, value, ttl)

    async def delete(self, lease: Fenced, *keys: str) -> int:
        """Delete values and return how many there were; the highest fence stays.

        Raises:
            StaleFence, Unavailable, OutcomeUnknown, Misuse: as for `set`.
        """
        return await self._protocol.delete(lease, keys)

    async def run(self, lease: Fenced, script: str, *, keys: Sequence[str] = (), args: Sequence[Part] = ()) -> Any:
        """Run a Lua script once the fence has passed, in the same step; return its answer, texts as bytes.

        Args:
            lease: a lease or a `FencingToken`.
            script: its text; `KEYS` and `ARGV` are the ones given here, from 1 on.
            keys: whole names of keys; on a Cluster they contain `tag(lease.name)`.
            args: texts, bytes and numbers.

        Raises:
            StaleFence: a later holder has written under this lock; the script was not run.
            Misuse: the script failed; what it wrote before that stays, as always in Redis.
            Unavailable, OutcomeUnknown: as for `set`.
        """
        return await self._protocol.run(lease, script, keys, args)

    async def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
            Unavailable, OutcomeUnknown: as for `set`.
        """
        await self._protocol.admit(lease)

    async def close(self) -> None:
        """Drop the connections, where the target was a URL."""
        await self._protocol.line.close()

    async def __aenter__(self) -> AsyncFencedKeys:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
