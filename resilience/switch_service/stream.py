"""Server-sent events to one listener: the present version, each later one, and signs of life."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .board import Board, Listener, Posted

__all__ = ["EventStream", "event"]

SEND_WITHIN = 10.0
Tell = Callable[[Posted], bytes]


def event(kind: str, data: Any, *, number: str = "") -> bytes:
    """Return one event as it goes over the wire."""
    head = f"id: {number}\n" if number else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class EventStream(Response):
    """An answer that lasts until the client goes, falls behind, loses its right, or the service stops.

    Guarantees: memory for one listener is bounded; a listener that takes nothing for 10 s, or falls 16 versions
    behind, is cut, and gets the present version when it comes back.

    Args:
        board: where documents are put up.
        scope: of what.
        tell: makes an event of a document.
        known: epoch and version that the client has by its Last-Event-ID, or None.
        heartbeat: seconds between two signs of life.
        still: whether the client may listen still; asked at each sign of life.
        headers: further headers.
    """

    def __init__(
        self,
        board: Board,
        scope: str,
        tell: Tell,
        *,
        known: tuple[int, int] | None,
        heartbeat: float,
        still: Callable[[], Awaitable[bool]],
        headers: dict[str, str] | None = None,
    ) -> None:
        self._board = board
        self._scope = scope
        self._tell = tell
        self._known = known
        self._heartbeat = heartbeat
        self._still = still
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})},
            media_type="text/event-stream",
        )
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        with self._board.listening(self._scope) as listener:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            speaking = asyncio.create_task(self._speak(listener, send))
            hearing = asyncio.create_task(_until_gone(receive))
            try:
                await asyncio.wait((speaking, hearing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (speaking, hearing):
                    task.cancel()
                await asyncio.gather(speaking, hearing, return_exceptions=True)
            if speaking.done() and not speaking.cancelled() and speaking.exception() is None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _speak(self, listener: Listener, send: Send) -> None:
        posted = self._board[self._scope]
        if posted is not None and posted.cursor != self._known:
            await _send(send, self._tell(posted))
        else:
            await _send(send, _alive())
        while not listener.cut:
            news = await listener.next(self._heartbeat)
            if news is not None:
                await _send(send, self._tell(news))
            elif not listener.cut:
                if not await self._still():
                    return
                await _send(send, _alive())


def _alive() -> bytes:
    return b": still here\n" + event("heartbeat", {})


async def _send(send: Send, data: bytes) -> None:
    async with asyncio.timeout(SEND_WITHIN):
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
