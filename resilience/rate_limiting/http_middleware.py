"""`RateLimit` fields on every answer, allowed or refused: pure ASGI and WSGI, off unless an application adds them.

    app.add_middleware(AsgiRateLimitFields)                 # FastAPI, Starlette
    app.wsgi_app = WsgiRateLimitFields(app.wsgi_app)        # Flask

They add fields and touch nothing else. Only limiters made with `announce=True` are told of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .http import Collected, collecting

__all__ = ["AsgiRateLimitFields", "WsgiRateLimitFields"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiRateLimitFields:
    """ASGI middleware. What the application set itself is left as it is; WebSockets and lifespan pass through."""

    def __init__(self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with collecting() as collected:

            async def with_fields(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    given = list(message.get("headers", ()))
                    present = {name.lower() for name, _ in given}
                    for name, value in collected.headers().items():
                        field = name.lower().encode("ascii")
                        if field not in present:
                            given.append((field, value.encode("ascii")))
                    message = {**message, "headers": given}
                await send(message)

            await self.app(scope, receive, with_fields)


class WsgiRateLimitFields:
    """WSGI middleware. Decisions count that are made before the answer starts, not while its body is iterated."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        with collecting() as collected:
            return self.app(environ, _starter(start_response, collected))


def _starter(start_response: Callable[..., Any], collected: Collected) -> Callable[..., Any]:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        present = {name.lower() for name, _ in headers}
        added = [(name, value) for name, value in collected.headers().items() if name.lower() not in present]
        return start_response(status, [*headers, *added], *exc_info)

    return start
