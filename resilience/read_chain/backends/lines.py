"""Connections to Redis through redis-py, without its retries: a bounded pool for threads, and one for each loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any, Protocol

from redis import exceptions

from backstay.clock import Clock, monotonic
from backstay.errors import Unavailable
from backstay.redis import Settings, not_reached, refused, unanswered

__all__ = ["BlockingLines", "Lines", "LoopLines"]

_MOST = 64  # connections to one server


class Lines(Protocol):
    """Asks one server."""

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """Return the reply to one command; an error reply as an exception.

        Raises:
            Unavailable: the command was not sent.
            OutcomeUnknown: it was, and there is no reply in time.
            Misuse: the server refused the credentials.
        """
        ...


class _Rest:
    """Connections at rest, by server, and how many there are in all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: dict[object, deque[Any]] = {}
        self.out = 0

    def take(self, settings: Settings) -> Any | None:
        """Return a connection at rest, or None where a new one may be opened.

        Raises:
            Unavailable: too many are in use.
        """
        with self.lock:
            resting = self.idle.get(settings.identity)
            if not resting and self.out >= _MOST:
                raise Unavailable(f"{settings.label}: all {_MOST} connections are in use")
            self.out += 1
            return resting.pop() if resting else None

    def give_back(self, settings: Settings, connection: Any | None) -> None:
        """Put a connection back that owes no reply; None for one that is gone."""
        with self.lock:
            self.out -= 1
            if connection is not None:
                self.idle.setdefault(settings.identity, deque()).append(connection)

    def empty(self) -> list[Any]:
        """Take out all that rest."""
        with self.lock:
            resting = [connection for several in self.idle.values() for connection in several]
            self.idle = {}
            return resting


class BlockingLines:
    """For threads. Not kept over a fork: the owner makes new ones in the child."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._rest = _Rest()

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """See `Lines.ask`."""
        until = self._clock() + timeout
        while True:
            connection = self._rest.take(settings)
            rested = connection is not None
            sent = False
            try:
                if connection is None:
                    connection = settings.blocking(max(until - self._clock(), 0.001))
                    connection.connect()
                connection.send_command(*command, check_health=False)
                sent = True
                reply = connection.read_response(timeout=max(until - self._clock(), 0.001))
            except exceptions.AuthenticationError as error:
                self._drop(settings, connection)
                raise refused(settings.label, error, "the connection") from error
            except exceptions.ResponseError as error:
                self._rest.give_back(settings, connection)
                return error
            except (exceptions.RedisError, OSError) as error:
                self._drop(settings, connection)
                if rested and not _is_late(error) and self._clock() < until:
                    self.close()  # the server was restarted while they rested; every step may be repeated
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except BaseException:  # a reply may still be on its way
                self._drop(settings, connection)
                raise
            self._rest.give_back(settings, connection)
            return reply

    def close(self) -> None:
        """Close the connections at rest."""
        for connection in self._rest.empty():
            connection.disconnect()

    def _drop(self, settings: Settings, connection: Any | None) -> None:
        if connection is not None:
            connection.disconnect()
        self._rest.give_back(settings, None)


class LoopLines:
    """For the tasks of one event loop."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._rest = _Rest()

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """See `Lines.ask`."""
        until = self._clock() + timeout
        while True:
            connection = self._rest.take(settings)
            rested = connection is not None
            sent = False
            try:
                async with asyncio.timeout(max(until - self._clock(), 0.001)):
                    if connection is None:
                        connection = settings.asynchronous()
                        await connection.connect()
                    await connection.send_command(*command, check_health=False)
                    sent = True
                    reply = await connection.read_response()
            except exceptions.AuthenticationError as error:
                await self._drop(settings, connection)
                raise refused(settings.label, error, "the connection") from error
            except exceptions.ResponseError as error:
                self._rest.give_back(settings, connection)
                return error
            except (exceptions.RedisError, OSError) as error:
                await self._drop(settings, connection)
                if rested and not _is_late(error) and self._clock() < until:
                    await self.aclose()
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except BaseException:  # a cancellation, too: the reply would be taken for that of the next command
                await self._drop(settings, connection)
                raise
            self._rest.give_back(settings, connection)
            return reply

    async def aclose(self) -> None:
        """Close the connections at rest, on the loop that they belong to."""
        for connection in self._rest.empty():
            await connection.disconnect(nowait=True)

    async def _drop(self, settings: Settings, connection: Any | None) -> None:
        self._rest.give_back(settings, None)
        if connection is not None:
            await connection.disconnect(nowait=True)  # `nowait`: closes the transport and waits for nobody


def _is_late(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | exceptions.TimeoutError)
