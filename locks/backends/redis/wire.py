"""Exchanges with Redis for threads: own connections, taken for one command and put back after a whole answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from redis import exceptions

from backstay.clock import monotonic

from .answers import Node, Request, Wire, granted, not_reached, refusal, replica_wait, too_few, unanswered
from .packing import pack
from .scripts import Script

__all__ = ["BlockingWire", "Connection"]

IDLE = 64  # connections that are kept for later; beyond that they are closed after use


class Connection(Protocol):
    """The part of redis-py's connections that is used here; all of it is public."""

    def connect(self) -> None: ...
    def pack_command(self, *parts: Any) -> Any: ...
    def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...
    def read_response(self, *, timeout: float = ..., disconnect_on_error: bool = True) -> Any: ...
    def disconnect(self) -> None: ...


class Held(NamedTuple):
    """A connection and what it was made for."""

    connection: Connection
    patient: bool
    """Whether its own timeout is the wire's patience; else each read has to set one, which costs four system calls."""


class BlockingWire:
    """The wire of threads.

    A connection serves one command at a time, not one held lock: a thousand leases need no thousand
    connections. One that the server closed meanwhile is noticed at the first read; the command is then sent
    once more on a new one, which is safe since every script knows its token.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._label = node.label
        self._patience = node.patience
        self._replicas = node.min_replicas
        self._idle: deque[Held] = deque()  # append and pop are atomic
        self._keep = IDLE

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """See `Wire.call`."""
        try:
            held, kept = self._idle.pop(), True
        except IndexError:
            held, kept = self._connected(timeout), False
        try:
            answer = self._exchange(held, script, keys, arguments, timeout)
        except exceptions.ConnectionError as error:
            if not kept:
                raise unanswered(self._label, error) from error
            self._drop_idle()  # if the server closed one, it closed them all
            held = self._connected(timeout)
            try:
                return self._exchange(held, script, keys, arguments, timeout), True
            except (exceptions.ConnectionError, exceptions.TimeoutError) as second:
                raise unanswered(self._label, second) from second
        except exceptions.TimeoutError as error:
            raise unanswered(self._label, error) from error
        return answer, False

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        """See `Wire.call_all`."""
        try:
            held, kept = self._idle.pop(), True
        except IndexError:
            held, kept = self._connected(timeout), False
        try:
            try:
                return self._pipeline(held, requests, timeout)
            except exceptions.ConnectionError:
                if not kept:
                    raise
                self._drop_idle()
                return self._pipeline(self._connected(timeout), requests, timeout)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise unanswered(self._label, error) from error

    async def servers(self, timeout: float) -> Sequence[Wire]:
        """See `Wire.servers`."""
        return (self,)

    def connected(self, timeout: float) -> Connection:
        """Return a new connection that is not among the idle ones, for the mailbox."""
        return self._connected(timeout).connection

    async def close(self) -> None:
        """Close the idle connections, and each one in use after its answer."""
        self._keep = 0
        self._drop_idle()

    def forked(self) -> None:
        """Drop the parent's connections; redis-py does not shut down a socket of another process."""
        self._idle = deque()

    def recover(self) -> None:
        """Drop the idle connections: the server did not answer on one of them."""
        self._drop_idle()

    # -- one connection

    def _connected(self, timeout: float) -> Held:
        answer_within = min(timeout, self._patience)
        within = min(answer_within, self._node.connect_within)
        connection = cast("Connection", self._node.settings.blocking(answer_within, within))
        try:
            connection.connect()
            self._heed(connection, within)
        except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
            connection.disconnect()
            raise refusal(self._label, error) from error
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            connection.disconnect()
            raise not_reached(self._label, error) from error
        except BaseException:
            connection.disconnect()
            raise
        return Held(connection, timeout >= self._patience)

    def _heed(self, connection: Connection, timeout: float) -> None:
        precautions = self._node.precautions
        questions = precautions.questions(self._label)
        for question in questions:
            connection.send_packed_command(pack(question), False)
        if questions:
            precautions.heed(self._label, [self._reply(connection, timeout) for _ in questions])

    def _reply(self, connection: Connection, timeout: float) -> Any:
        try:
            return connection.read_response(timeout=timeout)
        except exceptions.ResponseError as error:
            return error

    def _exchange(
        self,
        held: Held,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str | int],
        timeout: float,
    ) -> Any:
        """Send, read the whole answer, put the connection back. An interruption at any line drops it instead."""
        connection, patient = held
        replicas = self._replicas if self._replicas and script.grants else 0
        confirmed, sent = 0, monotonic() if replicas else 0.0
        try:
            connection.send_packed_command(pack(("EVALSHA", script.digest, len(keys), *keys, *arguments)), False)
            try:
                if patient and timeout >= self._patience:
                    answer = connection.read_response()
                else:
                    answer = connection.read_response(timeout=timeout)
            except exceptions.NoScriptError:  # SCRIPT FLUSH, a restart, a failover (R9)
                connection.send_packed_command(pack(("EVAL", script.text, len(keys), *keys, *arguments)), False)
                answer = connection.read_response(timeout=timeout)
            if replicas and granted(answer):
                left = max(timeout - (monotonic() - sent), 0.001)
                # Replicas confirm what this connection wrote, so it has to be asked on this one (R10).
                connection.send_packed_command(pack(("WAIT", replicas, replica_wait(left))), False)
                confirmed = connection.read_response(timeout=left)
        except exceptions.ConnectionError as error:
            connection.disconnect()
            if isinstance(error, (exceptions.BusyLoadingError, exceptions.AuthenticationError)):
                raise refusal(self._label, error) from error
            raise
        except (exceptions.ReadOnlyError, exceptions.MasterDownError) as error:
            connection.disconnect()
            self._drop_idle()  # it became a replica: the next connection, by name, may lead to the new master
            raise refusal(self._label, error) from error
        except exceptions.ResponseError as error:
            self._put_back(held)
            raise refusal(self._label, error) from error
        except BaseException:
            connection.disconnect()
            raise
        self._put_back(held)
        if confirmed < replicas and granted(answer):
            raise too_few(self._label, confirmed, replicas)
        return answer

    def _pipeline(self, held: Held, requests: Sequence[Request], timeout: float) -> list[Any]:
        connection = held.connection
        try:
            answers = self._round(connection, requests, timeout)
            if any(isinstance(answer, exceptions.NoScriptError) for answer in answers):
                for text in {request.script.text for request in requests}:
                    connection.send_packed_command(pack(("SCRIPT", "LOAD", text)), False)
                    connection.read_response(timeout=timeout)
                answers = self._round(connection, requests, timeout)
        except BaseException:
            connection.disconnect()
            raise
        self._put_back(held)
        return [refusal(self._label, it) if isinstance(it, exceptions.ResponseError) else it for it in answers]

    def _round(self, connection: Connection, requests: Sequence[Request], timeout: float) -> list[Any]:
        for request in requests:
            connection.send_packed_command(
                pack(("EVALSHA", request.script.digest, len(request.keys), *request.keys, *request.arguments)), False
            )
        return [self._reply(connection, timeout) for _ in requests]

    def _put_back(self, held: Held) -> None:
        if len(self._idle) < self._keep:
            self._idle.append(held)
        else:
            held.connection.disconnect()

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().connection.disconnect()
            except IndexError:  # another thread took the last one
                return
