"""One connection through a `FaultProxy`, and what all of them share; everything here runs in the proxy's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import cast

CHUNK = 65536


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a proxy has passed on and lost; chunks, as the module's text defines them."""

    connections: int = 0
    unreachable: int = 0
    """Connections ended because the server behind did not accept one."""
    requests: int = 0
    replies: int = 0
    lost_requests: int = 0
    lost_replies: int = 0
    cut: int = 0
    """Connections that the proxy reset."""


@dataclass(slots=True, kw_only=True)
class Loss:
    """Which chunks of one direction to swallow, how many more, and whether to reset the connection then."""

    matching: bytes | None
    left: int | None
    cut: bool

    def takes_one(self) -> bool:
        """Whether there is one more to lose; counts it."""
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The switches in force."""

    request_delay: float = 0.0
    reply_delay: float = 0.0
    lose_requests: Loss | None = None
    lose_replies: Loss | None = None


@dataclass(slots=True, kw_only=True)
class State:
    """What the connections of one proxy share."""

    upstream: tuple[str, int]
    faults: Faults = field(default_factory=Faults)
    counts: Counts = field(default_factory=Counts)
    links: set[Link] = field(default_factory=set["Link"])
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while the proxy is silent."""

    def __post_init__(self) -> None:
        self.open.set()

    def cut_all(self) -> int:
        """Reset every connection and return how many there were."""
        links = list(self.links)
        for link in links:
            link.reset()
        return len(links)

    def heal(self) -> None:
        """Put the switches back and reset the connections that lack something."""
        self.faults = Faults()
        for link in list(self.links):
            if link.hole:
                link.reset()
        self.open.set()


class Link:
    """A client's connection and ours to the server."""

    def __init__(self, state: State, connection: socket.socket) -> None:
        self._state = state
        self._connection = connection
        self._client: asyncio.StreamWriter | None = None
        self._server: asyncio.StreamWriter | None = None
        self._recent = b""
        self._asked = False
        self._gone = False
        self.hole = False

    async def carry(self) -> None:
        """Pass chunks both ways until both sides have ended or the link is reset."""
        state = self._state
        state.counts.connections += 1
        state.links.add(self)
        try:
            requests, self._client = await asyncio.open_connection(sock=self._connection)
            await state.open.wait()
            try:
                replies, self._server = await asyncio.open_connection(*state.upstream)
            except OSError:
                state.counts.unreachable += 1
                _abort(self._client)
                return
            if self._gone:  # reset while the server was being reached
                _abort(self._client)
                _abort(self._server)
                return
            await asyncio.gather(
                self._carry_requests(requests, self._server), self._carry_replies(replies, self._client)
            )
        finally:
            for writer in (self._client, self._server):
                if writer is not None:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
            state.links.discard(self)

    def ended(self, _: asyncio.Task[None]) -> None:
        """Close what `carry` was stopped from adopting."""
        if self._client is None:
            self._connection.close()

    def reset(self) -> None:
        """End both sides with RST, as a crash would."""
        if self._gone:
            return
        self._gone = True
        self._state.counts.cut += 1
        self._state.links.discard(self)
        for writer in (self._client, self._server):
            if writer is not None:
                _abort(writer)

    async def _carry_requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        state = self._state
        while chunk := await self._read(reader):
            if state.faults.request_delay:
                await asyncio.sleep(state.faults.request_delay)
            state.counts.requests += 1
            loss = state.faults.lose_requests
            if self.hole or (loss and self._contains(loss.matching, chunk) and loss.takes_one()):
                state.counts.lost_requests += 1
                self._lose(loss)
                continue
            loss = state.faults.lose_replies
            if loss is not None:
                self._asked = self._contains(loss.matching, chunk)
            self._recent = chunk
            await self._write(server, chunk)
        await self._end(server)

    async def _carry_replies(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        state = self._state
        while chunk := await self._read(reader):
            if state.faults.reply_delay:
                await asyncio.sleep(state.faults.reply_delay)
            state.counts.replies += 1
            loss = state.faults.lose_replies
            if self.hole or (loss and (loss.matching is None or self._asked) and loss.takes_one()):
                state.counts.lost_replies += 1
                self._lose(loss)
                continue
            self._asked = False
            await self._write(client, chunk)
        await self._end(client)

    def _contains(self, wanted: bytes | None, chunk: bytes) -> bool:
        if wanted is None:
            return True
        # The bytes may lie across two reads.
        return wanted in (self._recent[-len(wanted) + 1 :] if len(wanted) > 1 else b"") + chunk

    def _lose(self, loss: Loss | None) -> None:
        self.hole = True
        if loss is not None and loss.cut:
            self.reset()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            chunk = await reader.read(CHUNK)
        except OSError:
            chunk = b""
        await self._state.open.wait()
        return chunk

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        # The other side has gone: its own end is on the way and ends the link.
        with contextlib.suppress(OSError):
            writer.write(chunk)
            await writer.drain()

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if not writer.is_closing() and writer.can_write_eof():
                writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets RST instead of an orderly end."""
    with contextlib.suppress(OSError):
        cast(socket.socket, writer.get_extra_info("socket")).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
