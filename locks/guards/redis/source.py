"""From a URL or a client to a line."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.errors import Misuse
from backstay.locks.options import Duration, checked_answer_within
from backstay.url import choose, mask, parse

from .line import AsyncClusterLine, AsyncPoolLine, ClusterLine, Line, PoolLine

__all__ = ["async_line", "line"]


def line(target: object, answer_within: Duration) -> Line:
    """Return the line of threads to `target`.

    Raises:
        Misuse: a malformed URL, an unknown scheme, an asyncio client or something else.
    """
    if isinstance(target, str):
        pool, label = _pool(redis.ConnectionPool, target, answer_within, Retry(NoBackoff(), 0))
        return PoolLine(pool, label, own=True)
    if isinstance(target, redis.RedisCluster):
        return ClusterLine(target, "the Redis cluster")
    if isinstance(target, redis.Redis):
        return PoolLine(target.connection_pool, "Redis", own=False)
    raise _unknown(target, "redis.Redis", "AsyncFencedKeys")


def async_line(target: object, answer_within: Duration) -> Line:
    """Return the line of asyncio to `target`.

    Raises:
        Misuse: a malformed URL, an unknown scheme, a blocking client or something else.
    """
    if isinstance(target, str):
        pool, label = _pool(redis.asyncio.ConnectionPool, target, answer_within, AsyncRetry(NoBackoff(), 0))
        return AsyncPoolLine(pool, label, own=True)
    if isinstance(target, redis.asyncio.RedisCluster):
        return AsyncClusterLine(target, "the Redis cluster")
    if isinstance(target, redis.asyncio.Redis):
        return AsyncPoolLine(target.connection_pool, "Redis", own=False)
    raise _unknown(target, "redis.asyncio.Redis", "FencedKeys")


def _pool(make: Any, target: str, answer_within: Duration, retry: Any) -> tuple[Any, str]:
    url = parse(target)
    choose(url, {"redis": 1, "rediss": 1, "unix": 1}, what="guarded keys")
    limit = checked_answer_within(answer_within)
    try:
        return make.from_url(url.raw, socket_timeout=limit, socket_connect_timeout=limit, retry=retry), str(url)
    except (ValueError, TypeError) as error:
        raise Misuse(f"{str(url)!r}: {mask(str(error))}") from None


def _unknown(target: object, client: str, twin: str) -> Misuse:
    return Misuse(
        f"guarded keys take a URL such as 'redis://localhost/0' or a {client} (for the other kind, {twin}), "
        f"got {type(target).__module__}.{type(target).__qualname__}"
    )
