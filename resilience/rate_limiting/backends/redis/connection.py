"""Blocking connections: a bounded pool, and every step against the deadline of the call that takes it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import hiredis

from backstay.clock import Clock
from backstay.redis import Settings

from ...backend import StoreFailed
from .wire import credentials, greeting, learn

__all__ = ["Connection", "Pool"]

_CHUNK = 65_536
_IDLE = 1.0  # s; a connection that rested longer may have been closed by the server: look before using it


class Connection:
    """One connection, opened and greeted within the deadline.

    `server_us` is the server's clock when the greeting was answered, 0 where it does not tell its time.
    """

    __slots__ = ("_clock", "_reader", "_socket", "server_us", "used_at")

    def __init__(self, settings: Settings, deadline: float, clock: Clock) -> None:
        self._clock = clock
        self._reader = hiredis.Reader()
        self._socket = _open(settings, deadline, clock)
        try:
            commands, count = greeting(settings, credentials(settings))
            self._socket.settimeout(_left(deadline, clock))
            self._socket.sendall(commands)
            self.server_us = learn([self._read(deadline) for _ in range(count)])
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _lost(error) from error
            raise
        self.used_at = clock()

    def call(self, payload: bytes, deadline: float) -> Any:
        """Send one command and return its reply; an error reply is returned as an exception.

        Raises:
            StoreFailed: no reply by the deadline, or the connection is gone. It must be closed then: a reply
                that comes later would be taken for that of the next command.
        """
        try:
            self._socket.settimeout(_left(deadline, self._clock))
            self._socket.sendall(payload)
            return self._read(deadline)
        except OSError as error:
            raise _lost(error) from error

    def _read(self, deadline: float) -> Any:
        reply = self._reader.gets()
        while reply is False:  # incomplete; our replies are texts, lists and errors, never False
            data = self._socket.recv(_CHUNK)
            if not data:
                raise StoreFailed("connection", "the server closed the connection")
            self._reader.feed(data)
            reply = self._reader.gets()
            if reply is False:
                self._socket.settimeout(_left(deadline, self._clock))
        return reply

    def is_stale(self, now: float) -> bool:
        """Return whether the connection rested for a while and has ended meanwhile."""
        if now - self.used_at < _IDLE:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))  # nothing was asked, so anything to read is the end of it

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):  # it was opened
            self._socket.close()


class Pool:
    """Connections at rest, at most `size` of them in all.

    A caller that finds none waits for one within its own deadline. Not kept over a fork: the owner makes a
    new pool in the child. `learned` is told the server's microseconds whenever a connection was opened.
    """

    def __init__(self, settings: Settings, clock: Clock, learned: Callable[[int], None], size: int = 64) -> None:
        self._settings = settings
        self._learned = learned
        self._clock = clock
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._free = size
        self._lock = threading.Lock()

    def take(self, deadline: float) -> Connection:
        """Return a connection that is up, as far as one can see without a round trip.

        Raises:
            StoreFailed: none could be opened or came free by the deadline.
        """
        while True:
            connection = self._next(deadline)
            if connection is None:
                return self._new(deadline)
            if not connection.is_stale(self._clock()):
                return connection
            self.drop(connection)

    def _next(self, deadline: float) -> Connection | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            pass
        with self._lock:
            if self._free:
                self._free -= 1
                return None
        try:
            return self._idle.get(timeout=_left(deadline, self._clock))
        except Empty:
            raise StoreFailed("busy", "all connections are in use") from None

    def _new(self, deadline: float) -> Connection:
        try:
            connection = Connection(self._settings, deadline, self._clock)
        except BaseException:
            self._give_up()
            raise
        self._learned(connection.server_us)
        return connection

    def give_back(self, connection: Connection, now: float) -> None:
        """Put a connection back whose reply was read completely."""
        connection.used_at = now
        self._idle.put(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that may still owe a reply."""
        connection.close()
        self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            self._free += 1

    def clear(self) -> None:
        """Close all connections at rest."""
        while True:
            try:
                self.drop(self._idle.get_nowait())
            except Empty:
                return


def _open(settings: Settings, deadline: float, clock: Clock) -> socket.socket:
    """Return a connected socket. The resolver of the system has no deadline; addresses in digits need none."""
    try:
        if settings.path:
            return _connect(socket.AF_UNIX, settings.path, deadline, clock)
        sock: socket.socket | None = None
        failure: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM):
            try:
                sock = _connect(family, address, deadline, clock)
                break
            except OSError as error:
                failure = error
        if sock is None:
            raise failure or OSError(f"{settings.host} has no address")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = settings.tls_context()
        return sock if context is None else context.wrap_socket(sock, server_hostname=settings.host)
    except OSError as error:
        raise _lost(error) from error
    except ValueError as error:  # a host name that cannot be one
        raise StoreFailed("connection", f"{type(error).__name__}: {error}") from error


def _connect(family: int, address: Any, deadline: float, clock: Clock) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(_left(deadline, clock))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _left(deadline: float, clock: Clock) -> float:
    left = deadline - clock()
    if left <= 0:
        raise StoreFailed("timeout", "no answer within the budget")
    return left


def _lost(error: OSError) -> StoreFailed:
    if isinstance(error, TimeoutError):
        return StoreFailed("timeout", "no answer within the budget")
    return StoreFailed("connection", f"{type(error).__name__}: {error.strerror or error}")
