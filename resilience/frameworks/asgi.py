"""Policies round an ASGI application: FastAPI, Starlette, Quart, Litestar or a bare function.

    app.add_middleware(asgi.Protect, policies=[limit, bulkhead], name="web")     # FastAPI, Starlette
    app = asgi.Protect(app, policies=[limit, bulkhead], name="web")              # anything else

Pure ASGI: the application runs in the same task, so context variables, cancellation, background tasks and
streams are what they are without it. Messages pass as they come, none is kept or joined.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any, TypeAlias

from backstay.errors import BackstayError, Rejected, Unavailable
from backstay.problem import check_unknown_status

from ..policy import Settle
from ..policy.together import admit_all_async
from ..timeout import DEADLINE_HEADER, deadline, read_deadline
from .answers import SERVER_ERRORS, Policies, listed, outcome, request_target, settle_once
from .refusals import header_pairs, refusal

__all__ = ["Protect"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRY_AGAIN_LATER, _INTERNAL_ERROR = 1013, 1011  # WebSocket close codes


class Protect:
    """Admits each request through policies, and settles when the last byte of the answer was sent.

    A refusal is answered with 429 or 503, a problem document and `Retry-After`, and the application is not
    called. Guaranteed: what was admitted is settled once, whether the stream ends, raises, is cancelled or never
    starts; background tasks of Starlette run after that and hold no permit. Errors of the application pass
    through as they are; whether they were failures is for the policies to say.

    Only policies that admit can stand here (limit, bulkhead, breaker, concurrency limit, guard, switch,
    operation): an answer that was half sent cannot be retried or replaced. Put `protect` on endpoints for those.

    Args:
        app: the application.
        policies: one or several, the outermost first. A limit's `key` is a function of the ASGI scope.
        name: of what is protected, in telemetry and errors.
        failures: the statuses that are failures to breakers and operations.
        exempt: says of a scope that it passes without any policy, as health checks should.
        websockets: admit WebSockets as well, for as long as they are open. Lifespan is never touched.
        deadlines: take over the deadline that the caller sends (`backstay-deadline-ms`, see `timeout`): what the
            application calls further in shortens to it. For callers that you trust to say when they give up.
        unknown_status: what answers an unknown outcome: 500 or 202.

    Raises:
        Misuse: a policy cannot stand here; when the middleware is made.
    """

    def __init__(
        self,
        app: App,
        *,
        policies: Policies,
        name: str = "web",
        failures: Container[int] = SERVER_ERRORS,
        exempt: Callable[[Scope], bool] | None = None,
        websockets: bool = False,
        deadlines: bool = False,
        unknown_status: int = 500,
    ) -> None:
        self.app = app
        self._admit = admit_all_async(listed(policies), request_target(name, is_async=True))
        self._failures = failures
        self._exempt = exempt
        self._kinds = {"http", "websocket"} if websockets else {"http"}
        self._deadlines = deadlines
        self._unknown_status = check_unknown_status(unknown_status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in self._kinds or (self._exempt is not None and self._exempt(scope)):
            await self.app(scope, receive, send)
            return
        try:
            settle = await self._admit((scope,), {})
        except BackstayError as error:
            if scope["type"] == "http":
                await self._refuse(error, send)
            else:
                await self._close(error, scope, receive, send)
            return
        exchange = _Exchange(settle_once(settle), send, self._failures)
        left = _time_left(scope) if self._deadlines else None
        try:
            if left is None:
                await self.app(scope, receive, exchange.send)
            else:
                with deadline(left):
                    await self.app(scope, receive, exchange.send)
        except BaseException as error:
            exchange.settle(error)
            raise
        exchange.end(scope["type"])

    async def _refuse(self, error: BackstayError, send: Send, prefix: str = "http.response") -> None:
        answer = refusal(error, unknown_status=self._unknown_status)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in header_pairs(answer)]
        await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
        await send({"type": f"{prefix}.body", "body": answer.body})

    async def _close(self, error: BackstayError, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a WebSocket before it is accepted: with an answer where the server can, else by closing it."""
        await receive()  # websocket.connect
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await self._refuse(error, send, "websocket.http.response")
            return
        later = isinstance(error, Rejected | Unavailable)
        code = _TRY_AGAIN_LATER if later else _INTERNAL_ERROR
        await send({"type": "websocket.close", "code": code, "reason": error.title})


def _time_left(scope: Scope) -> float | None:
    wanted = DEADLINE_HEADER.encode("latin-1")
    sent = (value.decode("latin-1") for name, value in scope["headers"] if name == wanted)
    return read_deadline({DEADLINE_HEADER: next(sent, "")})


class _Exchange:
    """Watches the messages of one answer for its status and its end."""

    __slots__ = ("_failures", "_send", "_status", "settle")

    def __init__(self, settle: Settle, send: Send, failures: Container[int]) -> None:
        self.settle = settle
        self._send = send
        self._failures = failures
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
        await self._send(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            self.settle(outcome(self._status, self._failures))

    def end(self, kind: str) -> None:
        """Settle what ended without a last message: a WebSocket, a file sent by its path, an application's fault."""
        self.settle(None if kind == "websocket" else outcome(self._status, self._failures))
