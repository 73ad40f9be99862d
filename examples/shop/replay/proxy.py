"""The wire between two services, with faults: an HTTP proxy per edge that knows which basket a call is about."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable

from .faults import Edge, Fault, Faults, Kind
from .http1 import Message, read_message

__all__ = ["Proxy"]

BASKET = re.compile(rb'"basket_id":\s*(\d+)')
SILENCE = 10.0
"""How long a swallowed reply keeps the caller waiting if it has no timeout of its own, in seconds."""


class Proxy:
    """Listens on a free loopback port and passes requests on to `port`, meeting the faults of `faults`.

    `on_request` is called when a request has been handed to the service (kills hang on it). Faults can be switched
    off with `faults = None`; `in_flight` counts requests, late repetitions among them, that are not finished.
    """

    def __init__(self, edge: Edge, port: int, faults: Faults | None, on_request: Callable[[Edge], None]) -> None:
        self.edge: Edge = edge
        self.faults = faults
        self.in_flight = 0
        self.met: Counter[Kind] = Counter()
        self._upstream = port
        self._on_request = on_request
        self._calls: Counter[int] = Counter()
        self._basket_of: dict[bytes, int] = {}
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks = set[asyncio.Task[None]]()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where callers reach the service through this proxy."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(asyncio.current_task())
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while (request := await read_message(reader)) is not None:
                self.in_flight += 1
                try:
                    answered = await self._pass_on(request, reader, writer)
                finally:
                    self.in_flight -= 1
                if not answered:
                    return

    async def _pass_on(self, request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        fault = self._fault_of(request)
        kind = fault.kind if fault else None
        if fault and kind in (Kind.DELAYED, Kind.DELIVERED_LATE):
            await asyncio.sleep(fault.seconds)
        if fault and kind in (Kind.DUPLICATED, Kind.REPEATED_LATE):
            self._repeat(request, fault.seconds)
        answer = await self._ask(request)
        if kind is Kind.REPLY_SWALLOWED:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), SILENCE)  # until the caller gives up and closes
            return False
        if kind is Kind.REPLY_CUT or answer is None:
            return False
        writer.write(answer.raw)
        await writer.drain()
        return True

    def _fault_of(self, request: Message) -> Fault | None:
        basket_id = self._basket(request)
        if self.faults is None or basket_id is None:
            return None
        self._calls[basket_id] += 1
        fault = self.faults.of_call(self.edge, basket_id, self._calls[basket_id])
        if fault:
            self.met[fault.kind] += 1
        return fault

    def _basket(self, request: Message) -> int | None:
        """The basket named in the body, or else the one that the same transaction named earlier."""
        named = BASKET.search(request.body)
        transaction = request.headers.get(b"backstay-gtrid", b"")
        if named is None:
            return self._basket_of.get(transaction)
        basket_id = int(named[1])
        if transaction:
            self._basket_of[transaction] = basket_id
        return basket_id

    def _repeat(self, request: Message, seconds: float) -> None:
        async def again() -> None:
            try:
                await asyncio.sleep(seconds)
                await self._ask(request)
            finally:
                self.in_flight -= 1

        self.in_flight += 1
        self._keep(asyncio.create_task(again()))

    def _keep(self, task: asyncio.Task[None] | None) -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, request: Message) -> Message | None:
        """The service's answer, or None where it could not be reached or died before it answered."""
        try:
            reader, writer = await self._connection()
        except ConnectionError:
            return None
        try:
            writer.write(request.raw)
            await writer.drain()
            self._on_request(self.edge)
            answer = await read_message(reader)
        except ConnectionError:
            answer = None
        if answer is None:
            writer.close()
            return None
        self._idle.append((reader, writer))
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # else its service was killed while it was idle
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._upstream)
