"""The part of kazoo that is used here, typed; kazoo itself carries no types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from kazoo.client import KazooClient
from kazoo.protocol.serialization import Create2
from kazoo.security import OPEN_ACL_UNSAFE

__all__ = ["Answer", "Client", "Stat", "create_container", "create_contender", "new_client"]


class Answer(Protocol):
    """An answer that may still be on its way; set by the client's own threads."""

    value: Any

    @property
    def exception(self) -> BaseException | None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def rawlink(self, callback: Callable[[Answer], object]) -> None: ...


class Stat(Protocol):
    """What ZooKeeper knows of a node."""

    czxid: int
    mtime: int
    ctime: int
    version: int
    ephemeralOwner: int  # noqa: N815  # kazoo's word
    numChildren: int  # noqa: N815


class Transaction(Protocol):
    """Writes that happen all or not at all."""

    def create(self, path: str, value: bytes = b"") -> None: ...
    def delete(self, path: str, version: int = -1) -> None: ...
    def set_data(self, path: str, value: bytes, version: int = -1) -> None: ...
    def check(self, path: str, version: int) -> None: ...
    def commit_async(self) -> Answer: ...


class Client(Protocol):
    """A `kazoo.client.KazooClient`."""

    hosts: Sequence[tuple[str, int]]
    chroot: str
    default_acl: Any
    client_state: str
    client_id: tuple[int, bytes] | None
    connected: bool
    handler: Any

    def add_listener(self, listener: Callable[[str], bool | None]) -> None: ...
    def remove_listener(self, listener: Callable[[str], bool | None]) -> None: ...
    def start_async(self) -> Any: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def transaction(self) -> Transaction: ...
    def create_async(
        self, path: str, value: bytes = b"", ephemeral: bool = False, sequence: bool = False, include_data: bool = False
    ) -> Answer: ...
    def ensure_path_async(self, path: str) -> Answer: ...
    def delete_async(self, path: str, version: int = -1) -> Answer: ...
    def set_async(self, path: str, value: bytes, version: int = -1) -> Answer: ...
    def get_async(self, path: str, watch: Callable[[Any], object] | None = None) -> Answer: ...
    def exists_async(self, path: str, watch: Callable[[Any], object] | None = None) -> Answer: ...
    def get_children_async(self, path: str) -> Answer: ...
    def sync_async(self, path: str) -> Answer: ...


class Event(NamedTuple):
    """What a watch tells: kazoo's `WatchedEvent`."""

    type: str
    state: str
    path: str | None


def new_client(**options: Any) -> Client:
    """Return a client of ours, not started."""
    made: Any = KazooClient(**options)
    client: Client = made
    return client


class _CreateContainer(Create2):  # type: ignore[misc]  # kazoo is untyped
    """A node that the server deletes when its last child is gone; kazoo has no argument for it."""

    type = 19


_CONTAINER = 4
_EPHEMERAL_SEQUENTIAL = 3


def create_container(client: Client, path: str) -> Answer:
    """Create a container node; `UnimplementedError` where the server has none (before 3.5)."""
    return _create(client, _CreateContainer, path, _CONTAINER)


def create_contender(client: Client, path: str) -> Answer:
    """Create an ephemeral node with the next number; the answer is its path, chroot included, and its `Stat`.

    `create_async` would do, but it passes each answer through a second thread, a fifth of the time of a lock.
    """
    return _create(client, Create2, path, _EPHEMERAL_SEQUENTIAL)


def _create(client: Client, request: Any, path: str, flags: int) -> Answer:
    driver: Any = client
    answer: Answer = driver.handler.async_result()
    driver._call(request(client.chroot + path, b"", driver.default_acl or OPEN_ACL_UNSAFE, flags), answer)
    return answer
