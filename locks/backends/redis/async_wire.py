"""Exchanges with Redis for asyncio: one connection for each event loop, shared by all its tasks.

Requests leave in the order of the calls and answers come back in that order, so a task that is cancelled leaves
nothing to clean up: its answer is read and dropped, and its withdrawal cannot overtake what it sent before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

from redis import exceptions

from .answers import Node, Request, Wire, granted, not_reached, refusal, replica_wait, too_few, unanswered
from .packing import pack
from .scripts import Script

__all__ = ["AsyncConnection", "AsyncWire"]

CONFIRMING = 32  # takes at a time that wait for replicas, each on a connection of its own


class AsyncConnection(Protocol):
    """The part of redis-py's asyncio connections that is used here; all of it is public."""

    async def connect(self) -> None: ...
    def pack_command(self, *parts: Any) -> Any: ...
    async def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...
    async def read_response(self, *, disconnect_on_error: bool = True) -> Any: ...
    async def disconnect(self, nowait: bool = False) -> None: ...


class _Link:
    """One connection, its reader, and who waits for the next answers."""

    __slots__ = ("_reader", "_reading", "_stopped", "broken", "connection", "fresh", "pending")

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self.broken: BaseException | None = None
        self.fresh = True  # nothing was answered on it yet
        self._reading = self._stopped = False
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="backstay-locks-reader")

    async def _read(self) -> None:
        failure: BaseException = exceptions.ConnectionError("the event loop ended")
        self._reading = True
        try:
            while not self._stopped:
                try:
                    answer = await self.connection.read_response(disconnect_on_error=False)
                except exceptions.ResponseError as error:
                    answer = error
                if not self.pending:
                    raise exceptions.ConnectionError("an answer that nobody asked for")
                future, _ = self.pending.popleft()
                self.fresh = False
                if not future.done():
                    future.set_result(answer)
        except (exceptions.RedisError, OSError) as error:
            failure = error
        finally:
            self.fail(failure)
            with contextlib.suppress(exceptions.RedisError, OSError):
                await self.connection.disconnect(nowait=True)

    def fail(self, failure: BaseException) -> None:
        """Tell everybody who waits that no answer will come."""
        self.broken = self.broken or failure
        while self.pending:
            future, _ = self.pending.popleft()
            if not future.done():
                future.set_exception(failure)

    def stop(self) -> None:
        """Close the connection soon. A task that is cancelled before its first step never gets to its `finally`."""
        self._stopped = True
        if self._reading:
            self._reader.cancel()


class AsyncWire:
    """The wire of one event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._label = node.label
        self._patience = node.patience
        self._replicas = node.min_replicas
        self._confirming: deque[_Link] = deque()
        self._room = asyncio.Semaphore(CONFIRMING)
        self._loop = asyncio.get_running_loop()
        self._link: _Link | None = None
        self._linking = asyncio.Lock()

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """See `Wire.call`."""
        if self._replicas and script.grants:
            return await self._confirmed(script, keys, arguments, timeout)
        link = self._link
        if link is None or link.broken is not None:
            link = await self._linked(timeout)
        try:
            return await self._exchange(link, script, keys, arguments, timeout), False
        except exceptions.ConnectionError as error:
            if link.fresh:
                raise unanswered(self._label, error) from error
        except TimeoutError as error:
            raise unanswered(self._label, error) from error
        link = await self._linked(timeout)
        try:
            return await self._exchange(link, script, keys, arguments, timeout), True
        except (exceptions.ConnectionError, TimeoutError) as error:
            raise unanswered(self._label, error) from error

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        """See `Wire.call_all`."""
        outcomes = await asyncio.gather(
            *(self.call(each.script, each.keys, each.arguments, timeout) for each in requests), return_exceptions=True
        )
        answers: list[Any] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                raise outcome
            answers.append(outcome if isinstance(outcome, Exception) else outcome[0])
        return answers

    async def servers(self, timeout: float) -> Sequence[Wire]:
        """See `Wire.servers`."""
        return (self,)

    async def connected(self, timeout: float) -> AsyncConnection:
        """Return a new connection of its own, for the mailbox."""
        connection = cast("AsyncConnection", self._node.settings.asynchronous())
        try:
            async with asyncio.timeout(min(timeout, self._patience, self._node.connect_within)):
                await connection.connect()
                await self._heed(connection)
        except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
            await connection.disconnect(nowait=True)
            raise refusal(self._label, error) from error
        except (exceptions.ConnectionError, exceptions.TimeoutError, TimeoutError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise not_reached(self._label, error) from error
        except GeneratorExit:
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def close(self) -> None:
        """Drop the connection."""
        if self._link is not None:
            self._link.stop()
            self._link = None
        while self._confirming:
            self._confirming.pop().stop()

    def recover(self) -> None:
        """Drop what is silent; the shared connection notices that by itself."""
        while self._confirming:
            self._confirming.pop().stop()

    def forked(self) -> None:
        """Nothing: the loop of this wire does not run in the child."""

    async def _heed(self, connection: AsyncConnection) -> None:
        precautions = self._node.precautions
        questions = precautions.questions(self._label)
        for question in questions:
            await connection.send_packed_command(pack(question), check_health=False)
        replies: list[Any] = []
        for _ in questions:
            try:
                replies.append(await connection.read_response())
            except exceptions.ResponseError as error:
                replies.append(error)
        if questions:
            precautions.heed(self._label, replies)

    async def _confirmed(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """Run a script that grants, and wait for replicas: on a connection that nobody else waits on meanwhile."""
        until = self._loop.time() + timeout
        again, confirmed = False, 0
        answer: Any = None
        try:
            async with asyncio.timeout_at(until), self._room:
                while True:
                    kept = bool(self._confirming)
                    left = max(until - self._loop.time(), 0.001)
                    link = self._confirming.pop() if kept else _Link(await self.connected(left))
                    try:
                        answer, confirmed = await self._exchange_and_wait(link, script, keys, arguments, until)
                        self._confirming.append(link)
                        break
                    except exceptions.ConnectionError:
                        link.stop()
                        if not kept:
                            raise
                        again = True  # the server closed it while it was idle, or as it answered
                        self.recover()
                    except GeneratorExit:
                        raise
                    except BaseException:
                        link.stop()
                        raise
        except (exceptions.ConnectionError, TimeoutError) as error:
            raise unanswered(self._label, error) from error
        if confirmed < self._replicas and granted(answer):
            raise too_few(self._label, confirmed, self._replicas)
        return answer, again

    async def _exchange_and_wait(
        self, link: _Link, script: Script, keys: Sequence[str], arguments: Sequence[str | int], until: float
    ) -> tuple[Any, int]:
        answer = await self._exchange(link, script, keys, arguments, until - self._loop.time())
        if not granted(answer):
            return answer, 0
        left = max(until - self._loop.time(), 0.001)
        return answer, await self._send(link, left, "WAIT", self._replicas, replica_wait(left))

    async def _linked(self, timeout: float) -> _Link:
        async with self._linking:
            if self._link is None or self._link.broken is not None:
                self._link = _Link(await self.connected(timeout))
            return self._link

    async def _exchange(
        self, link: _Link, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> Any:
        answer = await self._send(link, timeout, "EVALSHA", script.digest, len(keys), *keys, *arguments)
        if isinstance(answer, exceptions.NoScriptError):  # SCRIPT FLUSH, a restart, a failover (R9)
            answer = await self._send(link, timeout, "EVAL", script.text, len(keys), *keys, *arguments)
        if isinstance(answer, (exceptions.ReadOnlyError, exceptions.MasterDownError)):
            # It became a replica: the next connection, by name, may lead to the new master.
            link.fail(exceptions.ConnectionError("the server became a replica"))
            link.stop()
        if isinstance(answer, exceptions.ResponseError):
            raise refusal(self._label, answer) from answer
        return answer

    async def _send(self, link: _Link, timeout: float, *parts: str | int) -> Any:
        loop, connection = self._loop, link.connection
        future: asyncio.Future[Any] = loop.create_future()
        link.pending.append((future, loop.time()))
        timer = loop.call_later(timeout, self._expire, link, future)
        try:
            # Runs up to the write without a suspension, so the order of `pending` is that of the requests.
            await connection.send_packed_command(pack(parts), check_health=False)
            return await future
        except BaseException as error:
            if isinstance(error, (exceptions.RedisError, OSError)) or not future.done():
                future.cancel()
            raise
        finally:
            timer.cancel()

    def _expire(self, link: _Link, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(TimeoutError("no answer in time"))
        if link.pending and self._loop.time() - link.pending[0][1] >= self._patience:
            # Not merely one impatient caller: nothing has come for as long as an answer may take.
            link.fail(exceptions.ConnectionError("no answer in time"))
            link.stop()
