"""Locks on a single Redis server: scripts in Lua files, wires and mailboxes in two makes.

The guarantee of this store is a *lease*: at most one valid holder while the server keeps what it acknowledged
and clocks run within 1 % of each other. A failover to a replica that had not seen the grant breaks that;
the fence, which is never below the server's time, still rises.
"""

from __future__ import annotations

from backstay.locks.levels import Level
from backstay.redis import Target, of_client, of_url
from backstay.url import Url

from .answers import Wire
from .backend import Mailbox, RedisBackend
from .connecting import Connector
from .reading import milliseconds

__all__ = ["RedisBackend", "RedisSource", "milliseconds"]


class RedisSource:
    """Redis servers that backends of both makes can be had for: a single one, or those of Sentinel or a Cluster."""

    kind = "redis"
    guarantee: Level = "fenced"

    def __init__(self, target: Target, space: str) -> None:
        self.target, self._space = target, space
        self._connector = Connector(target, space)

    @classmethod
    def from_url(
        cls,
        url: Url,
        space: str,
        answer_within: float | None,
        *,
        min_replicas: int | None = None,
        eviction: str | None = None,
    ) -> RedisSource:
        """Read a URL; `min_replicas` and `eviction` go before what it says."""
        return cls(of_url(url, answer_within).with_demands(min_replicas, eviction), space)

    @classmethod
    def from_client(
        cls,
        client: object,
        space: str,
        answer_within: float | None,
        *,
        min_replicas: int | None = None,
        eviction: str | None = None,
    ) -> RedisSource:
        """Copy a client's connection settings."""
        return cls(of_client(client, answer_within).with_demands(min_replicas, eviction), space)

    def blocking(self) -> RedisBackend:
        """Return a backend for threads."""
        return self._backend(*self._connector.blocking())

    def asynchronous(self) -> RedisBackend:
        """Return a backend for the running event loop."""
        return self._backend(*self._connector.asynchronous())

    def _backend(self, wire: Wire, mailbox: Mailbox) -> RedisBackend:
        return RedisBackend(wire, mailbox, self._space, self.target.label, self.target.patience)
