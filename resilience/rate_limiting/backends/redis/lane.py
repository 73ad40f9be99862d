"""One connection an event loop, shared by all its tasks.

Commands that tasks send in one turn of the loop leave in one write, and replies are matched in order, so a
thousand callers share a handful of round trips. A task that is cancelled leaves its place in the order, and
its reply is dropped. All calls have the same budget, so their deadlines come in the order of the calls: one
timer, for the oldest, serves all of them. One whose work ends sooner has a timer of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import hiredis

from backstay.clock import Clock, monotonic
from backstay.redis import Settings

from ...backend import StoreFailed
from .wire import credentials, greeting, learn

__all__ = ["Lane", "Request"]

_MOST_WAITING = 20_000
_AT_ONCE = 100  # requests that end in one turn of the loop: each wakes a task, and all of them delay the others
_SILENCE = 4  # budgets without a byte, while replies are owed, until the connection is given up


class Request:
    """A command that waits for its reply. `encode` is called when it is sent, since the stamp depends on when."""

    __slots__ = ("deadline", "encode", "future")

    def __init__(self, encode: Callable[[], bytes], deadline: float, future: asyncio.Future[Any]) -> None:
        self.encode = encode
        self.deadline = deadline
        self.future = future

    def fail(self, reason: str, message: str) -> None:
        """End the request without a reply, unless its caller has gone."""
        if not self.future.done():
            self.future.set_exception(StoreFailed(reason, message))


class _Link(asyncio.Protocol):
    """One opened connection of a lane. What an earlier one still reports is not the lane's business any more."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lane.made(transport)

    def data_received(self, data: bytes) -> None:
        if self._lane.transport is self._transport:
            self._lane.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lane.transport is self._transport:
            self._lane.end("connection", "the connection was lost")


class Lane:
    """The connection of one loop to one server. Opened by the first request, and again after it was lost.

    Args:
        settings: of the server.
        loop: the running loop, the only one that may use the lane.
        budget: seconds that a request may take.
        learned: told the server's microseconds whenever a connection was opened.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        *,
        budget: float,
        learned: Callable[[int], None],
        clock: Clock = monotonic,
    ) -> None:
        self.loop = loop
        self._settings = settings
        self._budget = budget
        self._learned = learned
        self._clock = clock
        self.transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        self._credentials: tuple[str, ...] = ()
        self._greeting: list[Any] | None = None
        self._owed = 0  # replies to the greeting that are still to come
        self._reader = hiredis.Reader()
        self._unsent: list[Request] = []
        self._sent: deque[Request] = deque()
        self._waiting: dict[Request, None] = {}  # in the order of deadlines; only what has not ended
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._latest = 0.0
        self._heard_at = 0.0

    def submit(self, encode: Callable[[], bytes], deadline: float) -> asyncio.Future[Any]:
        """Send a command in this turn of the loop; the future gets the reply, an error reply as a result.

        Raises:
            StoreFailed: too many requests wait already. The future raises it for no reply by the deadline or
                a lost connection.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreFailed("busy", f"{_MOST_WAITING} requests wait already")
        request = Request(encode, deadline, self.loop.create_future())
        self._waiting[request] = None
        self._unsent.append(request)
        if deadline < self._latest:
            self._hurry(request)
        else:
            self._latest = deadline
        if self._timer is None:
            self._arm(deadline)
        if self.transport is None:
            if self._opening is None:
                self._opened_at = self._clock()
                self._opening = self.loop.create_task(self._open(), name="backstay-redis-open")
        elif not self._flushing and not self._owed:
            self._flushing = True
            self.loop.call_soon(self._flush)
        return request.future

    def _flush(self) -> None:
        self._flushing = False
        if self.transport is None or self._owed:
            return
        requests = [request for request in self._unsent if not request.future.done()]
        self._drop([request for request in self._unsent if request.future.done()])
        self._unsent.clear()
        if requests:
            if not self._sent:
                self._heard_at = self._clock()
            self._sent.extend(requests)
            self.transport.write(b"".join([request.encode() for request in requests]))

    def _drop(self, requests: list[Request]) -> None:
        for request in requests:
            self._waiting.pop(request, None)

    # --- the connection ------------------------------------------------------------------------------

    async def _open(self) -> None:
        settings = self._settings
        try:
            # A provider asks somebody for credentials: not on the loop.
            if settings.provider is None:
                self._credentials = credentials(settings)
            else:
                self._credentials = await self.loop.run_in_executor(None, credentials, settings)
            if settings.path:
                await self.loop.create_unix_connection(lambda: _Link(self), settings.path)
            else:
                context = settings.tls_context()
                await self.loop.create_connection(lambda: _Link(self), settings.host, settings.port, ssl=context)
        except StoreFailed as failure:
            self._fail(failure.reason, str(failure))
        except (OSError, ValueError) as error:
            self._fail("connection", f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            self._fail("timeout", "no connection within the budget")
            raise
        finally:
            self._opening = None

    def made(self, transport: asyncio.Transport) -> None:
        """Greet the server; requests wait until it has told its time."""
        commands, self._owed = greeting(self._settings, self._credentials)
        self._greeting = []
        self._reader = hiredis.Reader()
        self.transport = transport
        self._heard_at = self._clock()
        transport.write(commands)

    def received(self, data: bytes) -> None:
        """Hand each reply to the request that waits longest."""
        self._heard_at = self._clock()
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if self._owed:
                self._greeted(reply)
                continue
            request = self._sent.popleft()
            self._waiting.pop(request, None)
            if not request.future.done():
                request.future.set_result(reply)

    def _greeted(self, reply: Any) -> None:
        assert self._greeting is not None
        self._greeting.append(reply)
        self._owed -= 1
        if self._owed:
            return
        try:
            self._learned(learn(self._greeting))
        except StoreFailed as failure:
            self.end(failure.reason, str(failure))
        else:
            self._flush()

    def end(self, reason: str, message: str) -> None:
        """Leave the connection and fail every request; those that were sent may have been executed."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None
        self._fail(reason, message)

    def _fail(self, reason: str, message: str) -> None:
        requests = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        self._waiting.clear()
        self._owed = 0
        for request in requests:
            request.fail(reason, message)

    def close(self) -> None:
        """Close the connection; the lane may be used again."""
        if self._opening is not None:
            self._opening.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.end("connection", "closed")

    # --- the timer -----------------------------------------------------------------------------------

    def _hurry(self, request: Request) -> None:
        """Give a request that ends before those in front of it a timer of its own."""
        timer = self.loop.call_later(max(0.0, request.deadline - self._clock()), self._end_early, request)
        request.future.add_done_callback(lambda _: timer.cancel())

    def _end_early(self, request: Request) -> None:
        self._waiting.pop(request, None)
        request.fail("timeout", "no answer before the deadline")

    def _arm(self, deadline: float) -> None:
        self._timer = self.loop.call_later(max(0.0, deadline - self._clock()), self._expire)

    def _expire(self) -> None:
        """End the requests whose time is over. Those that were sent keep their place among the replies."""
        self._timer = None
        now = self._clock()
        for request in list(islice(self._waiting, _AT_ONCE)):
            if request.deadline > now:
                break
            del self._waiting[request]
            request.fail("timeout", "no answer within the budget")
        for request in self._waiting:  # the oldest that is left; in a turn of its own, so that others run in between
            self._arm(request.deadline)
            break
        silent = now - max(self._heard_at, self._opened_at) > _SILENCE * self._budget
        if silent and self.transport is not None and (self._sent or self._owed):
            # Whatever the server still does with what it got is harmless: the stamps in it are past.
            self.end("timeout", "the server has gone silent")
        elif silent and self._opening is not None:
            self._opening.cancel()
