"""One exchange with Redis, in two makes, over the connections of a client: sent once, and never again by itself.

A client's own commands are sent again after a lost reply (redis-py 8: ten times), which would run a user's script
twice. Here a connection of the client's pool is used directly, which sends once; only a cluster client, which
finds the node for a key, is called as a whole and keeps its ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis import exceptions

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

from .scripts import Script

__all__ = ["AsyncClusterLine", "AsyncPoolLine", "ClusterLine", "Line", "PoolLine"]

Part = str | bytes | int | float
_BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_NOT_NOW = (
    "LOADING",
    "READONLY",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "TRYAGAIN",
    "BUSY ",
    "MOVED",
    "ASK ",
    "NOREPLICAS",
    "OOM",
)


class Line(Protocol):
    """Runs scripts at a Redis, in either make."""

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """Run a script and return its answer.

        Raises:
            Unavailable: it was not sent, or the server runs nothing now.
            OutcomeUnknown: it was sent and not answered.
            Misuse: the server refused it, or it failed midway.
        """
        ...

    async def close(self) -> None:
        """Drop the connections, if they are our own."""
        ...


def _refusal(label: str, error: Exception) -> BackstayError:
    text = mask(str(error)) or type(error).__name__
    if isinstance(error, (exceptions.BusyLoadingError, exceptions.ReadOnlyError)) or text.startswith(_NOT_NOW):
        return Unavailable(f"{label} does not serve writes now: {text}")
    return Misuse(f"{label} refused or broke off a guarded script (what it wrote before stays): {text}")


def _not_reached(label: str, error: BaseException) -> Unavailable:
    return Unavailable(f"{label} was not reached: {mask(str(error)) or type(error).__name__}")


def _unanswered(label: str, error: BaseException) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{label} did not answer a guarded write: {mask(str(error)) or type(error).__name__}; it may have been done, "
        "and may be repeated with the same fence where doing it twice does no harm"
    )


def _command(script: Script, whole: bool, keys: Sequence[str], arguments: Sequence[Part]) -> tuple[Any, ...]:
    name, text = ("EVAL", script.text) if whole else ("EVALSHA", script.digest)
    return name, text, len(keys), *keys, *arguments


class PoolLine:
    """The line of threads, over a `redis.ConnectionPool`."""

    def __init__(self, pool: Any, label: str, *, own: bool) -> None:
        self._pool, self._label, self._own = pool, label, own

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """See `Line.run`."""
        try:
            connection = self._pool.get_connection()
        except _BROKEN as error:
            raise _not_reached(self._label, error) from error
        whole_answer = False
        try:
            try:
                answer = self._exchange(connection, _command(script, False, keys, arguments))
            except exceptions.NoScriptError:
                answer = self._exchange(connection, _command(script, True, keys, arguments))
            whole_answer = True
        except _BROKEN as error:
            raise _unanswered(self._label, error) from error
        except exceptions.ResponseError as error:
            whole_answer = True
            raise _refusal(self._label, error) from error
        finally:
            if not whole_answer:
                connection.disconnect()
            self._pool.release(connection)
        return answer

    @staticmethod
    def _exchange(connection: Any, command: tuple[Any, ...]) -> Any:
        connection.send_command(*command)
        return connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        """Drop the connections, if they are our own."""
        if self._own:
            self._pool.disconnect()


class AsyncPoolLine:
    """The line of asyncio, over a `redis.asyncio.ConnectionPool`."""

    def __init__(self, pool: Any, label: str, *, own: bool) -> None:
        self._pool, self._label, self._own = pool, label, own

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """See `Line.run`."""
        try:
            connection = await self._pool.get_connection()
        except _BROKEN as error:
            raise _not_reached(self._label, error) from error
        whole_answer = False
        try:
            try:
                answer = await self._exchange(connection, _command(script, False, keys, arguments))
            except exceptions.NoScriptError:
                answer = await self._exchange(connection, _command(script, True, keys, arguments))
            whole_answer = True
        except _BROKEN as error:
            raise _unanswered(self._label, error) from error
        except exceptions.ResponseError as error:
            whole_answer = True
            raise _refusal(self._label, error) from error
        finally:
            if not whole_answer:  # cancelled as well: the reply would be taken for the next command's
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        return answer

    @staticmethod
    async def _exchange(connection: Any, command: tuple[Any, ...]) -> Any:
        await connection.send_command(*command)
        return await connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        """Drop the connections, if they are our own."""
        if self._own:
            await self._pool.disconnect()


class ClusterLine:
    """The line of threads over a `redis.cluster.RedisCluster`, which may repeat a script by itself."""

    def __init__(self, client: Any, label: str) -> None:
        self._client, self._label = client, label

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """See `Line.run`."""
        try:
            return self._client.eval(script.text, len(keys), *keys, *arguments)
        except _BROKEN as error:
            raise _unanswered(self._label, error) from error
        except exceptions.RedisError as error:
            raise _refusal(self._label, error) from error

    async def close(self) -> None:
        """Leave the client open: it is the user's."""


class AsyncClusterLine:
    """The line of asyncio over a `redis.asyncio.cluster.RedisCluster`, which may repeat a script by itself."""

    def __init__(self, client: Any, label: str) -> None:
        self._client, self._label = client, label

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """See `Line.run`."""
        try:
            return await self._client.eval(script.text, len(keys), *keys, *arguments)
        except _BROKEN as error:
            raise _unanswered(self._label, error) from error
        except exceptions.RedisError as error:
            raise _refusal(self._label, error) from error

    async def close(self) -> None:
        """Leave the client open: it is the user's."""
