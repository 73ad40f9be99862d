"""Locks on a ZooKeeper ensemble, by kazoo.

The guarantee of this store is a *lease bound to a session*: at most one valid holder while the ensemble keeps a
quorum's word and clocks run within 1 % of each other. The fence is the ensemble's own number of the change that
made the holder's node (czxid), which no loss of a server resets (F4).
"""

from __future__ import annotations

from backstay.locks.backend import Backend
from backstay.locks.levels import Level
from backstay.runtime import Runtime
from backstay.url import Url

from .backend import ZooKeeperBackend
from .settings import Settings, of_client, of_url
from .wire import AsyncioWire, BlockingWire

__all__ = ["ZooKeeperBackend", "ZooKeeperSource"]


class ZooKeeperSource:
    """An ensemble that backends of both makes can be had for."""

    kind = "zookeeper"
    guarantee: Level = "fenced"

    def __init__(self, settings: Settings, space: str, blocking: Runtime, asynchronous: Runtime) -> None:
        self._settings, self._space = settings, space
        self._blocking, self._asynchronous = blocking, asynchronous

    @classmethod
    def from_url(
        cls, url: Url, space: str, answer_within: float | None, blocking: Runtime, asynchronous: Runtime
    ) -> ZooKeeperSource:
        """Read a URL."""
        return cls(of_url(url, answer_within), space, blocking, asynchronous)

    @classmethod
    def from_client(
        cls, client: object, space: str, answer_within: float | None, blocking: Runtime, asynchronous: Runtime
    ) -> ZooKeeperSource:
        """Use a client that the user has; it is started where it was not, and never stopped."""
        return cls(of_client(client, answer_within), space, blocking, asynchronous)

    def blocking(self) -> Backend:
        """Return a backend for threads."""
        return ZooKeeperBackend(self._blocking, BlockingWire(), self._settings, self._space)

    def asynchronous(self) -> Backend:
        """Return a backend for the running event loop."""
        return ZooKeeperBackend(self._asynchronous, AsyncioWire(), self._settings, self._space)
