"""Documents in ZooKeeper: a node a scope, its data the document, a watch that tells of each new one.

Theory of operation. A watch tells once, that something changed and not what; it is lost where a session ends. So it is
set anew by the read that follows it, and by one on every way back to the ensemble: whatever came in between is
read then (P29). A publisher replaces the node's data by its ZooKeeper version, so that of two publishers on one base
only one succeeds. An ensemble that was put back to an old copy answers something older by epoch and version, and
readers leave that alone (SW-1).
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask, parse

from ..envelope import Cursor, Envelope
from ..port import Hear, Told

__all__ = ["ZookeeperPublisher", "ZookeeperSource"]

_LARGEST = 1_000_000
"""Bytes of the largest document: a server takes packets of 1 MiB, as it is delivered."""


class _Scope:
    """Where a scope's document is, and the session to it."""

    kind = "zookeeper"

    def __init__(self, url: str, *, scope: str | None, timeout: float, session: float) -> None:
        found = parse(url)
        scope = scope or found.query.get("scope")
        if scope is None:
            raise Misuse("say whose documents: zookeeper://a,b,c?scope=shop/production, or scope='shop/production'")
        for what, seconds in (("timeout", timeout), ("session", session)):
            if not 0.1 <= seconds <= 600:
                raise Misuse(f"{what} must be from 0.1 to 600 s, got {seconds!r}")
        if not found.hosts or set(found.query) - {"scope"} or found.username is not None:
            raise Misuse(f"{mask(url)!r}: expected 'zookeeper://a:2181,b:2181/chroot?scope=shop/production'")
        self.scope = Envelope.seal(scope=scope, epoch=1, version=0, items={}).scope  # checked there
        self._timeout = timeout
        self._session = session
        self._path = f"{found.path.rstrip('/')}/backstay/config/{scope}"
        self._hosts = ",".join(
            f"[{host}]:{port or 2181}" if ":" in host else f"{host}:{port or 2181}" for host, port in found.hosts
        )
        self.name = f"zookeeper://{self._hosts}{found.path.rstrip('/')}?scope={scope}"
        self._client: Any = None
        self._pid = 0
        self._lock = threading.Lock()

    def _connected(self) -> Any:
        """Return the client, connected.

        Raises:
            Unavailable: the ensemble was not reached in time.
        """
        if self._pid != os.getpid():  # a client of the parent has no threads here, and its session is not ours
            self._lock, self._client, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._client is None:
                self._client = KazooClient(
                    hosts=self._hosts,
                    timeout=self._session,
                    connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=2.0, ignore_expire=True),
                    command_retry=KazooRetry(max_tries=0),
                )
                self._client.start_async()
            client = self._client
        if not client.connected:
            live = threading.Event()

            def changed(state: str) -> None:
                if state == "CONNECTED":
                    live.set()

            client.add_listener(changed)
            try:
                if not client.connected and not live.wait(self._timeout):
                    raise Unavailable(f"{self.name} was not reached within {self._timeout:g} s")
            finally:
                client.remove_listener(changed)
        return client

    def _await(self, answer: Any) -> Any:
        return answer.get(timeout=self._timeout)

    def close(self) -> None:
        """End the session."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            with contextlib.suppress(KazooException, KazooTimeoutError):  # the ensemble may be gone
                client.stop()
            client.close()

    def _failed(self, error: Exception) -> BackstayError:
        if isinstance(error, NoAuthError | AuthFailedError):
            return Misuse(f"{self.name} refuses access; give the node's ACL to this client")
        return Unavailable(f"{self.name} gave no answer: {type(error).__name__} {error}".rstrip())


class ZookeeperSource(_Scope):
    """The document of a scope in a ZooKeeper ensemble.

    Guarantees: a look ends within about twice `timeout`; an ensemble that holds nothing is told as unavailable and
    takes nothing away; after every loss of the connection the document is read again. Not guaranteed: that each
    version is seen; the last one is.

    Args:
        url: `zookeeper://a:2181,b:2181/chroot?scope=shop/production`.
        scope: where the URL does not say it.
        timeout: seconds for each step.
        session: seconds after which a server that is silent counts as lost, about.

    Raises:
        Misuse: an argument is wrong.
    """

    def __init__(self, url: str, *, scope: str | None = None, timeout: float = 3.0, session: float = 10.0) -> None:
        super().__init__(url, scope=scope, timeout=timeout, session=session)

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the document there, or None where it is `known`; at once, whatever `wait` is.

        Raises:
            Unavailable: the ensemble was not reached, gave no answer, or holds no document of the scope.
            Misuse: what it holds is no document.
        """
        client = self._connected()
        try:
            self._await(client.sync_async(self._path))  # a server behind says what it had
            data, _ = self._await(client.get_async(self._path))
        except NoNodeError:
            raise Unavailable(f"{self.name} holds no document; publish a first one, or it was emptied") from None
        except (KazooException, KazooTimeoutError, OSError) as error:
            raise self._failed(error) from error
        try:
            found = Envelope.parse(data)
        except Misuse as error:
            raise Misuse(f"{self.name}: {error}") from None
        return None if found.cursor == known else found

    def subscribe(self, hear: Hear) -> _Watch:
        """Begin to tell `hear` of what is published from now on.

        Raises:
            Unavailable: the ensemble was not reached.
        """
        client = self._connected()
        watch = _Watch(client, self._path, hear)
        try:
            self._await(watch.begin())
        except NoNodeError:
            pass  # a watch for its creation was set
        except (KazooException, KazooTimeoutError, OSError) as error:
            watch.close()
            raise self._failed(error) from error
        return watch


class _Watch:
    """A watch on a node that sets itself again."""

    def __init__(self, client: Any, path: str, hear: Hear) -> None:
        self._client = client
        self._path = path
        self._hear = hear
        self._closed = False
        self._pid = os.getpid()
        client.add_listener(self._changed)

    @property
    def alive(self) -> bool:
        """Whether the ensemble hears from this client, which kazoo asks three times a session."""
        return not self._closed and bool(self._client.connected)

    def close(self) -> None:
        """Hear nothing any more."""
        self._closed = True
        if self._pid == os.getpid():
            self._client.remove_listener(self._changed)

    def begin(self) -> Any:
        """Set the watch; return the answer to come: the node's data, or that there is none yet."""
        answer = self._client.get_async(self._path, watch=self._event)
        answer.rawlink(self._read)
        return answer

    def _read(self, answer: Any) -> None:
        if isinstance(answer.exception, NoNodeError):
            self._client.exists_async(self._path, watch=self._event).rawlink(self._created)
        elif answer.exception is None and not self._closed:
            try:
                found = Envelope.parse(answer.value[0])
            except Misuse:
                return  # the plane's pull reads it as well, and reports it
            self._hear(Told(epoch=found.epoch, version=found.version, envelope=found))

    def _created(self, answer: Any) -> None:
        if answer.exception is None and answer.value is not None and not self._closed:
            self.begin()  # it came between the two questions

    def _event(self, event: Any) -> None:
        if not self._closed and event.type in {"CREATED", "CHANGED", "DELETED"}:
            self.begin()

    def _changed(self, state: str) -> bool | None:
        if self._closed:
            return True
        if state == "CONNECTED":  # after a gap: watches may be gone with the session, news with the gap
            self._client.handler.spawn(self.begin)
        return None


class ZookeeperPublisher(_Scope):
    """Brings documents of a scope to ZooKeeper.

    Guarantees: the document there is replaced by a newer one only, whole; the same document again is no change, so
    who was not answered publishes it again; what was acknowledged survives the loss of a minority of the ensemble.

    Args:
        url: see `ZookeeperSource`.
        scope: see there.
        timeout: seconds for each step.
        session: see there.
    """

    def __init__(self, url: str, *, scope: str | None = None, timeout: float = 3.0, session: float = 10.0) -> None:
        super().__init__(url, scope=scope, timeout=timeout, session=session)

    def publish(self, envelope: Envelope, *, base: Cursor | None = None) -> bool:
        """Put a document there; return whether it is there now, or False where something newer or else stands.

        Args:
            envelope: the document.
            base: what must be there now; None for anything that is older.

        Raises:
            Unavailable: nothing was changed.
            OutcomeUnknown: the ensemble gave no answer; publish the same document again to know.
            Misuse: the document is of another scope, too large for a node, or the ensemble refuses it.
        """
        if envelope.scope != self.scope:
            raise Misuse(f"this publishes documents of {self.scope!r}, got one of {envelope.scope!r}")
        document = envelope.to_bytes()
        if len(document) > _LARGEST:
            raise Misuse(f"a node holds at most {_LARGEST:,} bytes, the document has {len(document):,}; split scopes")
        client = self._connected()
        while True:
            held, version = self._held(client)
            if held is not None and held.checksum == envelope.checksum:
                return True
            if (base is not None and (held is None or held.cursor != base)) or envelope.compare(held) != "newer":
                return False
            if self._put(client, document, version):
                return True

    def _held(self, client: Any) -> tuple[Envelope | None, int | None]:
        """Return what is there, and ZooKeeper's version of it; what is no document is replaced like an old one."""
        try:
            self._await(client.sync_async(self._path))
            data, stat = self._await(client.get_async(self._path))
        except NoNodeError:
            return None, None
        except (KazooException, KazooTimeoutError, OSError) as error:
            raise self._failed(error) from error
        try:
            return Envelope.parse(data), stat.version
        except Misuse:
            return None, stat.version

    def _put(self, client: Any, document: bytes, version: int | None) -> bool:
        """Write, unless somebody was quicker."""
        if version is None:
            try:
                self._await(client.ensure_path_async(self._path.rpartition("/")[0]))
            except (KazooException, KazooTimeoutError, OSError) as error:
                raise self._failed(error) from error
            answer = client.create_async(self._path, document)
        else:
            answer = client.set_async(self._path, document, version)
        try:
            self._await(answer)
        except (BadVersionError, NodeExistsError, NoNodeError):
            return False
        except (NoAuthError, AuthFailedError) as error:
            raise self._failed(error) from error
        except (KazooException, KazooTimeoutError, OSError) as error:
            raise OutcomeUnknown(f"{self.name} gave no answer to a publication; publish the same again") from error
        return True
