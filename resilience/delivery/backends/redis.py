"""Documents in Redis: a hash a scope, and a channel that tells of each new one.

Theory of operation. The hash is the truth and the channel a hint: pub/sub keeps nothing for who was away, so the plane
listens first, reads the hash then, and reads it again on every reconnect and every pull interval (SW-2, SW-4). A
publisher replaces the hash by one script, only by something newer, so that two publishers never overwrite each other
and a publication may be repeated until it is answered. An old hash, put back from a copy, is older by epoch and
version, and readers leave it alone (SW-1).
"""

from __future__ import annotations

import os
import threading
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlencode

from redis import exceptions

from backstay.blocking import BlockingRuntime, drive
from backstay.clock import monotonic
from backstay.errors import Misuse, Unavailable
from backstay.redis import (
    ClusterRoute,
    Place,
    Route,
    SentinelRoute,
    Settings,
    Shape,
    blocking_exchange,
    not_reached,
    refused,
    target,
    unanswered,
)

from ..envelope import Cursor, Envelope
from ..port import Hear, Told

__all__ = ["RedisPublisher", "RedisSource"]

_PUBLISH = resources.files(__name__.rpartition(".")[0]).joinpath("publish.lua").read_text()
_CARRIED = 1 << 16  # bytes of the largest document that news brings along


class _Scope:
    """Where a scope's document is."""

    kind = "redis"

    def __init__(self, store: object, *, scope: str | None, timeout: float) -> None:
        if isinstance(store, str):
            store, said = _without_scope(store)
            scope = scope or said
        if scope is None:
            raise Misuse("say whose documents: redis://host:6379/0?scope=shop/production, or scope='shop/production'")
        if not 0.01 <= timeout <= 600:
            raise Misuse(f"timeout must be from 0.01 to 600 s, got {timeout!r}")
        self.scope = Envelope.seal(scope=scope, epoch=1, version=0, items={}).scope  # checked there
        self._timeout = timeout
        self._target = target(store)
        self._key = f"backstay:config:1:{{{scope}}}"
        # Channels belong to a server and not to a database of it.
        self._channel = f"{self._key}:news:{self._target.settings.db}"
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        runtime, shape = BlockingRuntime(), self._target.shape
        self._route: Route | None = None
        if shape is not Shape.SINGLE:
            make = SentinelRoute if shape is Shape.SENTINEL else ClusterRoute
            self._route = make(self._target, blocking_exchange, runtime)

    @property
    def name(self) -> str:
        """The server and the scope, without secrets."""
        return f"{self._target}?scope={self.scope}"

    def _ask(self, *command: Any) -> Any:
        """Return the reply to one command, over a connection of its own.

        Raises:
            Unavailable: it was not sent, or the server does not serve now.
            OutcomeUnknown: it was sent, and not answered.
            Misuse: the server refuses it.
        """
        settings, place = self._where()
        connection = self._connected(settings, place)
        try:
            connection.send_command(*command, check_health=False)
            return connection.read_response()
        except exceptions.ResponseError as error:
            self._doubt(place)
            raise refused(settings.label, error, "a step of the delivery of documents") from error
        except (exceptions.RedisError, OSError) as error:
            self._doubt(place)
            raise unanswered(settings.label, error) from error
        finally:
            connection.disconnect()

    def _where(self) -> tuple[Settings, Place | None]:
        if self._pid != os.getpid():
            self._begin()
        if self._route is None:
            return self._target.settings, None
        place = drive(self._route.place(self._key, self._timeout))
        return self._target.settings.at(*place), place

    def _connected(self, settings: Settings, place: Place | None) -> Any:
        connection = settings.blocking(self._timeout)
        try:
            connection.connect()
        except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
            self._doubt(place)
            raise refused(settings.label, error, "the connection") from error
        except (exceptions.RedisError, OSError) as error:
            self._doubt(place)
            raise not_reached(settings.label, error) from error
        return connection

    def _doubt(self, place: Place | None) -> None:
        if self._route is not None and place is not None:
            self._route.doubt(place)


class RedisSource(_Scope):
    """The document of a scope in Redis: one server, those of Sentinel, or a Cluster.

    Guarantees: a look ends within about twice `timeout`; a server that holds nothing, as after FLUSHALL, is told as
    unavailable and takes nothing away. Not guaranteed: that news arrives; the plane's pulls make up for what is lost.

    Args:
        store: `redis://host:6379/0?scope=shop/production`, other URLs of `backstay.redis`, or a client.
        scope: where the URL does not say it.
        timeout: seconds for each step.
        heartbeat: seconds between two signs of life that are asked for on the channel.

    Raises:
        Misuse: an argument is wrong.
    """

    def __init__(
        self, store: object, *, scope: str | None = None, timeout: float = 3.0, heartbeat: float = 5.0
    ) -> None:
        super().__init__(store, scope=scope, timeout=timeout)
        if not 0.01 <= heartbeat <= 600:
            raise Misuse(f"heartbeat must be from 0.01 to 600 s, got {heartbeat!r}")
        self._heartbeat = heartbeat

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the document there, or None where it is `known`; at once, whatever `wait` is.

        Raises:
            Unavailable: the server was not reached, gave no answer, or holds no document of the scope.
            Misuse: what it holds is no document.
        """
        if known is not None and self._heads() == known:
            return None
        document = self._read("HGET", self._key, "document")
        if document is None:
            raise Unavailable(f"{self.name} holds no document; publish a first one, or it was emptied")
        try:
            return Envelope.parse(_bytes(document))
        except Misuse as error:
            raise Misuse(f"{self.name}: {error}") from None

    def subscribe(self, hear: Hear) -> _Channel:
        """Begin to tell `hear` of what is published from now on.

        Raises:
            Unavailable: the server was not reached.
        """
        settings, place = self._where()
        connection = self._connected(settings, place)
        try:
            connection.send_command("SUBSCRIBE", self._channel, check_health=False)
            connection.read_response()
        except exceptions.ResponseError as error:
            connection.disconnect()
            raise refused(settings.label, error, "to tell of news") from error
        except (exceptions.RedisError, OSError) as error:
            connection.disconnect()
            self._doubt(place)
            raise not_reached(settings.label, error) from error
        return _Channel(connection, hear, heartbeat=self._heartbeat)

    def close(self) -> None:
        """Do nothing: no connection stays open between two pulls."""

    def _heads(self) -> Cursor | None:
        epoch, version = self._read("HMGET", self._key, "epoch", "version")
        try:
            return None if epoch is None else Cursor(int(epoch), int(version))
        except (TypeError, ValueError):
            return None  # somebody else wrote there: what the document says counts

    def _read(self, *command: Any) -> Any:
        try:
            return self._ask(*command)
        except Unavailable:
            raise
        except Misuse:
            raise
        except Exception as error:  # a read that was not answered changed nothing
            raise Unavailable(str(error)) from error


class RedisPublisher(_Scope):
    """Brings documents of a scope to Redis.

    Guarantees: the document there is replaced by a newer one only, whole, and those who listen are told in the same
    step; the same document again is no change, so who was not answered publishes it again. Not guaranteed: that it
    survives the loss of the server; a publisher that holds the truth publishes it again.

    Args:
        store: see `RedisSource`.
        scope: see there.
        timeout: seconds for each step.
    """

    def __init__(self, store: object, *, scope: str | None = None, timeout: float = 3.0) -> None:
        super().__init__(store, scope=scope, timeout=timeout)

    def publish(self, envelope: Envelope, *, base: Cursor | None = None) -> bool:
        """Put a document there; return whether it is there now, or False where something newer or else stands.

        Args:
            envelope: the document.
            base: what must be there now; None for anything that is older.

        Raises:
            Unavailable: nothing was changed.
            OutcomeUnknown: the server gave no answer; publish the same document again to know.
            Misuse: the document is of another scope, or the server refuses it.
        """
        if envelope.scope != self.scope:
            raise Misuse(f"this publishes documents of {self.scope!r}, got one of {envelope.scope!r}")
        document = envelope.to_bytes()
        news = b"%d %d\n" % envelope.cursor + (document if len(document) <= _CARRIED else b"")
        expected = ("", "") if base is None else (base.epoch, base.version)
        arguments = (envelope.epoch, envelope.version, envelope.checksum, document, self._channel, news, *expected)
        reply = self._ask("EVAL", _PUBLISH, 1, self._key, *arguments)
        return int(reply[0]) == 1


class _Channel:
    """A thread that reads one channel until it ends or falls silent."""

    def __init__(self, connection: Any, hear: Hear, *, heartbeat: float) -> None:
        self._connection = connection
        self._hear = hear
        self._heartbeat = heartbeat
        self._heard_at = monotonic()
        self._closing = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="backstay-config-redis", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the server spoke within two heartbeats."""
        recent = monotonic() - self._heard_at <= 2.5 * self._heartbeat
        return recent and self._thread.is_alive() and not self._closing

    def close(self) -> None:
        """Hear nothing any more; the thread ends within a heartbeat."""
        self._closing = True

    def _run(self) -> None:
        asked_at = monotonic()
        try:
            while not self._closing and monotonic() - self._heard_at <= 2.5 * self._heartbeat:
                if self._connection.can_read(timeout=min(0.5, self._heartbeat)):
                    self._take(self._connection.read_response())
                if monotonic() - asked_at >= self._heartbeat:
                    asked_at = monotonic()
                    self._connection.send_command("PING", check_health=False)
        except (exceptions.RedisError, OSError, ValueError):
            return  # the plane sees that it is not alive, and begins anew with the whole document
        finally:
            if self._pid == os.getpid():
                self._connection.disconnect()

    def _take(self, message: Any) -> None:
        self._heard_at = monotonic()
        if len(message) != 3 or message[0] != b"message" or self._closing:  # or the answer to a PING
            return
        told = news_of(_bytes(message[2]))
        if told is not None:
            self._hear(told)


def news_of(message: bytes) -> Told | None:
    """Return what a message tells; None for one that cannot be understood: the next pull knows more."""
    head, _, document = message.partition(b"\n")
    try:
        epoch, version = (int(number) for number in head.split(b" "))
        envelope = Envelope.parse(document) if document else None
    except ValueError:  # Misuse is one as well
        return None
    if envelope is not None and envelope.cursor != (epoch, version):
        return None
    return Told(epoch=epoch, version=version, envelope=envelope)


def _without_scope(url: str) -> tuple[str, str | None]:
    """Return the URL without the entry `scope` of its query, and the entry."""
    head, mark, query = url.partition("?")
    entries = parse_qsl(query, keep_blank_values=True)
    rest = urlencode([entry for entry in entries if entry[0] != "scope"])
    return (f"{head}{mark}{rest}" if rest else head), dict(entries).get("scope")


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
