"""A few commands to one server over a connection of their own, in both makes: for questions, not for the daily work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis import exceptions

from backstay.clock import monotonic

from .failures import not_reached, refused
from .settings import Settings

__all__ = ["Command", "Exchange", "asyncio_exchange", "blocking_exchange"]

Command = tuple[str | int, ...]


class Exchange(Protocol):
    """Asks one server."""

    async def __call__(self, settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
        """Connect, send the commands, return the replies, disconnect; an error reply stands as an exception.

        Raises:
            Unavailable: the server did not answer within `timeout` seconds.
            Misuse: it refused the credentials.
        """
        ...


async def blocking_exchange(settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
    """Ask from the calling thread."""
    until = monotonic() + timeout
    connection = settings.blocking(timeout)
    try:
        connection.connect()
        for command in commands:
            connection.send_command(*command, check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(connection.read_response(timeout=max(until - monotonic(), 0.001)))
            except exceptions.ResponseError as error:
                replies.append(error)
        return replies
    except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
        raise refused(settings.label, error, "the connection") from error
    except (exceptions.RedisError, OSError) as error:
        raise not_reached(settings.label, error) from error
    finally:
        connection.disconnect()


async def asyncio_exchange(settings: Settings, commands: Sequence[Command], timeout: float) -> list[Any]:
    """Ask from the running loop."""
    connection = settings.asynchronous()
    try:
        async with asyncio.timeout(timeout):
            await connection.connect()
            for command in commands:
                await connection.send_command(*command, check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    replies.append(error)
            return replies
    except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
        raise refused(settings.label, error, "the connection") from error
    except (exceptions.RedisError, TimeoutError, OSError) as error:
        raise not_reached(settings.label, error) from error
    finally:
        await connection.disconnect(nowait=True)
