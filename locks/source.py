"""From a URL or a client to a store of locks, in both makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.errors import Misuse
from backstay.url import Url, choose, parse, require

from .backend import Backend
from .backends.memory import MemoryBackend, store
from .levels import Level, checked_level
from .options import Duration, checked_answer_within, checked_namespace

__all__ = ["ASYNCIO", "BLOCKING", "Source", "checked_source", "source"]

BLOCKING = BlockingRuntime()
ASYNCIO = AsyncioRuntime()

_REDIS = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


class Source(Protocol):
    """A store that both makes of backends can be had for; making one opens no connection."""

    kind: str

    @property
    def guarantee(self) -> Level:
        """What it gives at most: see `levels.LEVELS`."""
        ...

    def blocking(self) -> Backend:
        """Return a backend for threads."""
        ...

    def asynchronous(self) -> Backend:
        """Return a backend for the running event loop."""
        ...


class MemorySource:
    """`memory://` or `memory://NAME`: this process only."""

    kind = "memory"
    guarantee: Level = "fenced"

    def __init__(self, url: Url, space: str) -> None:
        if url.path.strip("/") or url.query or url.username:
            raise Misuse(f"{str(url)!r}: a memory store has at most a name, as in 'memory://tests'")
        self._store, self._space = store(url.host), space

    def blocking(self) -> Backend:
        return MemoryBackend(BLOCKING, self._store, self._space)

    def asynchronous(self) -> Backend:
        return MemoryBackend(ASYNCIO, self._store, self._space)


def _memory(url: Url, space: str, answer_within: float | None) -> Source:
    return MemorySource(url, space)


def _redis(url: Url, space: str, answer_within: float | None, **demands: Any) -> Source:
    require("redis", "redis")
    from .backends.redis import RedisSource

    return RedisSource.from_url(url, space, answer_within, **demands)


def _quorum(url: Url, space: str, answer_within: float | None) -> Source:
    require("redis", "redis")
    from .backends.quorum import QuorumSource, quorum_of_url

    return QuorumSource(quorum_of_url(url, answer_within), space)


_SQL = (
    "sqlite", "sqlite+pysqlite", "sqlite+aiosqlite",
    "postgresql", "postgresql+psycopg", "postgresql+psycopg_async", "postgresql+psycopg2", "postgresql+asyncpg",
    "mysql", "mysql+pymysql", "mysql+aiomysql", "mysql+asyncmy",
    "mariadb", "mariadb+pymysql", "mariadb+aiomysql", "mariadb+asyncmy",
)  # fmt: skip


def _sql(url: Url, space: str, answer_within: float | None) -> Source:
    require("sqlalchemy", "sql")
    from .backends.sql import SqlSource

    return SqlSource(url.raw, space, answer_within)


_ADVISORY = tuple(f"advisory+{scheme}" for scheme in _SQL if scheme.startswith("postgresql"))


def _advisory(url: Url, space: str, answer_within: float | None) -> Source:
    require("sqlalchemy", "sql")
    from .backends.advisory import AdvisorySource

    return AdvisorySource(url.raw.partition("+")[2], space, answer_within)


def _zookeeper(url: Url, space: str, answer_within: float | None) -> Source:
    require("kazoo", "zookeeper")
    from .backends.zookeeper import ZooKeeperSource

    return ZooKeeperSource.from_url(url, space, answer_within, BLOCKING, ASYNCIO)


def source(target: str | object, space: str, answer_within: float | None, **demands: Any) -> Source:
    """Return the store behind a URL or a client; `demands` are made of Redis only.

    Raises:
        Misuse: the URL is malformed, its scheme unknown, or the client of a kind that locks cannot use.
        MissingExtra: the package for it is not installed.
    """
    given: Any = target
    if isinstance(given, str):
        url = parse(given)
        schemes = {"memory": _memory, "zookeeper": _zookeeper, "redis+quorum": _quorum, "rediss+quorum": _quorum}
        schemes |= {**dict.fromkeys(_REDIS, _redis), **dict.fromkeys(_SQL, _sql), **dict.fromkeys(_ADVISORY, _advisory)}
        make = choose(url, schemes, what="lock")
        if make is _redis:
            return _redis(url, space, answer_within, **demands)
        _undemanding(demands)
        return make(url, space, answer_within)
    if isinstance(given, (list, tuple)):
        _undemanding(demands)
        require("redis", "redis")
        from .backends.quorum import QuorumSource, quorum_of_each

        return QuorumSource(quorum_of_each(cast("Sequence[object]", given), answer_within), space)
    if type(given).__module__.partition(".")[0] == "redis" or hasattr(given, "connection_pool"):
        from .backends.redis import RedisSource

        return RedisSource.from_client(given, space, answer_within, **demands)
    _undemanding(demands)
    if type(given).__module__.partition(".")[0] == "sqlalchemy":
        from .backends.sql import SqlSource

        return SqlSource(given, space, answer_within)
    if hasattr(given, "client_state") and hasattr(given, "chroot"):  # a KazooClient, or somebody's subclass of it
        from .backends.zookeeper import ZooKeeperSource

        return ZooKeeperSource.from_client(given, space, answer_within, BLOCKING, ASYNCIO)
    raise Misuse(f"locks connect to a URL such as 'redis://localhost/0' or a Redis client, got {type(given).__name__}")


def _undemanding(demands: dict[str, Any]) -> None:
    for name, value in demands.items():
        if value is not None:
            raise Misuse(f"{name} is for a Redis that has replicas or evicts; leave it out for other stores")


def checked_source(
    target: object, namespace: str, answer_within: Duration | None, require: Level | None, **demands: Any
) -> tuple[Source, str]:
    """Return the store behind a URL or a client, and the namespace, all arguments checked."""
    space = checked_namespace(namespace)
    found = source(target, space, checked_answer_within(answer_within), **demands)
    checked_level(require, found.guarantee, found.kind)
    return found, space
