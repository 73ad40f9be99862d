"""Connections to Redis through redis-py, without its retries: a bounded pool for threads, and one for each loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any, Protocol

from redis import exceptions

from backstay.clock import Clock, monotonic
from backstay.errors import BulkheadFull
from backstay.redis import Settings, not_reached, refused, unanswered

__all__ = ["BlockingLines", "Lines", "LoopLines"]

_MOST = 64  # connections to one server


class Lines(Protocol):
    """Asks one server."""

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """Return the reply to one command; an error reply as an exception.

        Raises:
            BulkheadFull: all connections were in use for as long as that.
            Unavailable: the command was not sent.
            OutcomeUnknown: it was, and there is no reply in time.
            Misuse: the server refused the credentials.
        """
        ...


class _Rest:
    """Connections at rest, by server."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: dict[object, deque[Any]] = {}

    def take(self, settings: Settings) -> Any | None:
        """Return a connection at rest, or None where a new one is to be opened."""
        with self.lock:
            resting = self.idle.get(settings.identity)
            return resting.pop() if resting else None

    def give_back(self, settings: Settings, connection: Any) -> None:
        """Put a connection back that owes no reply."""
        with self.lock:
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
        self._turns = threading.BoundedSemaphore(_MOST)

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """See `Lines.ask`."""
        until = self._clock() + timeout
        if not self._turns.acquire(timeout=timeout):
            raise _busy(settings)
        try:
            return self._ask(settings, command, until)
        finally:
            self._turns.release()

    def _ask(self, settings: Settings, command: tuple[Any, ...], until: float) -> Any:
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
                _drop(connection)
                raise refused(settings.label, error, "the connection") from error
            except exceptions.ResponseError as error:
                self._rest.give_back(settings, connection)
                return error
            except (exceptions.RedisError, OSError) as error:
                _drop(connection)
                if rested and not _is_late(error) and self._clock() < until:
                    self.close()  # the server was restarted while they rested; every step may be repeated
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except BaseException:  # a reply may still be on its way
                _drop(connection)
                raise
            self._rest.give_back(settings, connection)
            return reply

    def close(self) -> None:
        """Close the connections at rest."""
        for connection in self._rest.empty():
            connection.disconnect()


class LoopLines:
    """For the tasks of one event loop."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._rest = _Rest()
        self._turns = asyncio.Semaphore(_MOST)

    async def ask(self, settings: Settings, command: tuple[Any, ...], timeout: float) -> Any:
        """See `Lines.ask`."""
        until = self._clock() + timeout
        try:
            async with asyncio.timeout(timeout if self._turns.locked() else None):
                await self._turns.acquire()
        except TimeoutError:
            raise _busy(settings) from None
        try:
            return await self._ask(settings, command, until)
        finally:
            self._turns.release()

    async def _ask(self, settings: Settings, command: tuple[Any, ...], until: float) -> Any:
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
                await _drop_async(connection)
                raise refused(settings.label, error, "the connection") from error
            except exceptions.ResponseError as error:
                self._rest.give_back(settings, connection)
                return error
            except (exceptions.RedisError, OSError) as error:
                await _drop_async(connection)
                if rested and not _is_late(error) and self._clock() < until:
                    await self.aclose()
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except GeneratorExit:  # thrown away with its loop: nothing can be awaited
                if connection is not None:
                    connection._close()  # what disconnect does, without a loop
                raise
            except BaseException:  # a cancellation, too: the reply would be taken for that of the next command
                await _drop_async(connection)
                raise
            self._rest.give_back(settings, connection)
            return reply

    async def aclose(self) -> None:
        """Close the connections at rest, on the loop that they belong to."""
        for connection in self._rest.empty():
            await connection.disconnect(nowait=True)


def _drop(connection: Any | None) -> None:
    if connection is not None:
        connection.disconnect()


async def _drop_async(connection: Any | None) -> None:
    if connection is not None:
        await connection.disconnect(nowait=True)  # `nowait`: closes the transport and waits for nobody


def _busy(settings: Settings) -> BulkheadFull:
    return BulkheadFull(f"{settings.label}: all {_MOST} connections are in use")


def _is_late(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | exceptions.TimeoutError)
