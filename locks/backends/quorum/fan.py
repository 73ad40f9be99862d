"""Connections to all masters that one thread uses at a time: send to all, then read all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from redis import exceptions

from backstay.locks.backends.redis import wire

__all__ = ["SLICE", "Fan", "Line"]

SLICE = 0.02  # s for which one master is listened to before the others get their turn


class Connection(wire.Connection, Protocol):
    """The part of redis-py's connections that is used here; all of it is public."""

    def can_read(self, timeout: float = 0) -> bool: ...


class Line:
    """A connection to one master, and how many answers on it nobody has read.

    An answer that was not needed is read before the next one: so a request never overtakes an earlier one, and a
    master that is slow for a moment costs no new connection.
    """

    __slots__ = ("_narrowed", "connection", "owed", "since", "slow")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.owed = 0
        self.since = 0.0  # when the oldest unread question was sent
        self.slow = False  # the latest question was not answered in its slice: it is listened to last
        narrow: Callable[[float], None] | None = getattr(connection, "update_current_socket_timeout", None)
        if narrow is not None:  # once for all reads: a time given to each costs four system calls
            narrow(SLICE)
        self._narrowed = narrow is not None

    def send(self, command: Any, now: float) -> None:
        """Send a command; its answer stands behind those that are owed."""
        self.connection.send_packed_command(command, False)
        if not self.owed:
            self.since = now
        self.owed += 1

    def receive(self) -> Any:
        """Return the answer to the latest command; an error answer is raised.

        Raises:
            TimeoutError: of redis-py; nothing came for `SLICE` seconds, and the line is as good as before.
            ConnectionError: of redis-py.
        """
        while self.owed > 1:
            self._skip()
        try:
            answer = self._next()
        except exceptions.ResponseError:
            self._settled()
            raise
        self._settled()
        return answer

    def catch_up(self) -> None:
        """Read what has come of the answers that are owed, without waiting.

        Raises:
            ConnectionError: of redis-py.
        """
        while self.owed and self.connection.can_read(0):
            try:
                self._skip()
            except exceptions.TimeoutError:  # a part of an answer
                return
        self.slow = self.owed > 0

    def _skip(self) -> None:
        try:
            self._next()
        except exceptions.ResponseError:  # of a question that nobody waits for any more
            self.owed -= 1
        else:
            self.owed -= 1

    def _settled(self) -> None:
        self.owed, self.slow = 0, False

    def _next(self) -> Any:
        if self._narrowed:
            return self.connection.read_response(disconnect_on_error=False)
        return self.connection.read_response(timeout=SLICE, disconnect_on_error=False)

    def close(self) -> None:
        """Drop the connection."""
        self.connection.disconnect()


class Fan:
    """One line to each master, or none where it is away."""

    __slots__ = ("lines",)

    def __init__(self, masters: int) -> None:
        self.lines: list[Line | None] = [None] * masters

    def drop(self, number: int) -> None:
        """Drop one line."""
        line, self.lines[number] = self.lines[number], None
        if line is not None:
            line.close()

    def close(self) -> None:
        """Drop all lines."""
        for number in range(len(self.lines)):
            self.drop(number)
