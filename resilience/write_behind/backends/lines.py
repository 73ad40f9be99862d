"""Connections to Redis that send several commands at once: WAIT counts from the writes of its own connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from redis import exceptions

from backstay.clock import monotonic
from backstay.errors import Unavailable
from backstay.redis import Settings, not_reached, refused, unanswered

__all__ = ["BlockingLines", "Command", "Lines", "LoopLines"]

Command: TypeAlias = tuple[Any, ...]
_MOST = 64  # connections to one server


class Lines(Protocol):
    """Asks one server; every request here may be repeated, since operations have ids."""

    async def ask(self, settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
        """Return the reply to each command; an error reply as an exception.

        Raises:
            Unavailable: the commands were not sent.
            OutcomeUnknown: they were, and there are no replies in time.
            Misuse: the server refused the credentials.
        """
        ...

    async def close(self) -> None:
        """Close the connections at rest."""
        ...


class _Rest:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[Any] = []
        self.out = 0

    def take(self, settings: Settings) -> Any | None:
        with self.lock:
            if not self.idle and self.out >= _MOST:
                raise Unavailable(f"{settings.label}: all {_MOST} connections are in use")
            self.out += 1
            for at in range(len(self.idle) - 1, -1, -1):
                if self.idle[at][0] == settings.identity:
                    return self.idle.pop(at)[1]
            return None

    def give_back(self, settings: Settings, connection: Any | None) -> None:
        with self.lock:
            self.out -= 1
            if connection is not None:
                self.idle.append((settings.identity, connection))

    def empty(self) -> list[Any]:
        with self.lock:
            resting, self.idle = self.idle, []
            return [connection for _, connection in resting]


class BlockingLines:
    """For threads. Not kept over a fork: the owner makes new ones in the child."""

    def __init__(self) -> None:
        self._rest = _Rest()

    async def ask(self, settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
        """See `Lines.ask`."""
        until = monotonic() + timeout
        while True:
            connection = self._rest.take(settings)
            rested = connection is not None
            sent = False
            try:
                if connection is None:
                    connection = settings.blocking(max(until - monotonic(), 0.001))
                    connection.connect()
                connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                sent = True
                replies = [_reply(connection, max(until - monotonic(), 0.001)) for _ in commands]
            except exceptions.AuthenticationError as error:
                self._drop(settings, connection)
                raise refused(settings.label, error, "the connection") from error
            except (exceptions.RedisError, OSError) as error:
                self._drop(settings, connection)
                if rested and not _is_late(error) and monotonic() < until:
                    await self.close()  # the server was restarted while they rested
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except BaseException:  # replies may still be on their way
                self._drop(settings, connection)
                raise
            self._rest.give_back(settings, connection)
            return replies

    async def close(self) -> None:
        """See `Lines.close`."""
        for connection in self._rest.empty():
            connection.disconnect()

    def _drop(self, settings: Settings, connection: Any | None) -> None:
        if connection is not None:
            connection.disconnect()
        self._rest.give_back(settings, None)


class LoopLines:
    """For the tasks of one event loop."""

    def __init__(self) -> None:
        self._rest = _Rest()

    async def ask(self, settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
        """See `Lines.ask`."""
        until = monotonic() + timeout
        while True:
            connection = self._rest.take(settings)
            rested = connection is not None
            sent = False
            try:
                async with asyncio.timeout(max(until - monotonic(), 0.001)):
                    if connection is None:
                        connection = settings.asynchronous()
                        await connection.connect()
                    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                    sent = True
                    replies: list[Any] = []
                    for _ in commands:
                        try:
                            replies.append(await connection.read_response())
                        except exceptions.ResponseError as error:
                            replies.append(error)
            except exceptions.AuthenticationError as error:
                await self._drop(settings, connection)
                raise refused(settings.label, error, "the connection") from error
            except (exceptions.RedisError, OSError) as error:
                await self._drop(settings, connection)
                if rested and not _is_late(error) and monotonic() < until:
                    await self.close()
                    continue
                raise (unanswered if sent else not_reached)(settings.label, error) from error
            except GeneratorExit:  # thrown away with its loop: nothing can be awaited
                self._rest.give_back(settings, None)
                if connection is not None:
                    connection._close()  # what disconnect does, without a loop
                raise
            except BaseException:  # a cancellation, too: the replies would be taken for those of the next commands
                await self._drop(settings, connection)
                raise
            self._rest.give_back(settings, connection)
            return replies

    async def close(self) -> None:
        """See `Lines.close`."""
        for connection in self._rest.empty():
            await connection.disconnect(nowait=True)

    async def _drop(self, settings: Settings, connection: Any | None) -> None:
        self._rest.give_back(settings, None)
        if connection is not None:
            await connection.disconnect(nowait=True)  # `nowait`: closes the transport and waits for nobody


def _reply(connection: Any, timeout: float) -> Any:
    try:
        return connection.read_response(timeout=timeout)
    except exceptions.ResponseError as error:
        return error


def _is_late(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | exceptions.TimeoutError)
