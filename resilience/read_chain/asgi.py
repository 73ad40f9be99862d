"""Source and age of the reads of a request in the header of its answer, for ASGI.

    app.add_middleware(asgi.SaysReads)          # FastAPI, Starlette
    app = asgi.SaysReads(app)                   # anything else

Pure ASGI: the application runs in the same task, and messages pass as they come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from .collected import reads
from .headers import added, said

__all__ = ["SaysReads"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class SaysReads:
    """Adds `Age` and `Cache-Status` for what was read until the answer began; what a stream reads later is not there.

    Args:
        app: the application.
        warning: say `Warning: 110` as well where something was stale.
    """

    def __init__(self, app: _App, *, warning: bool = False) -> None:
        self.app = app
        self._warning = warning

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with reads() as collected:

            async def saying(message: _Message) -> None:
                if message["type"] == "http.response.start" and (fields := said(collected, warning=self._warning)):
                    there = [
                        (bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in message.get("headers", ())
                    ]
                    pairs = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in added(there, fields)]
                    message = {**message, "headers": pairs}
                await send(message)

            await self.app(scope, receive, saying)
