"""Backstay's errors as HTTP answers of a FastAPI (or Starlette) application.

    from backstay.fastapi import install
    install(app)

Nothing else is installed. It is an exception handler and no middleware: `BaseHTTPMiddleware` would cost a
task a request, break streaming's cancellation and hide context variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstay.errors import BackstayError, Rejected, Unavailable
from backstay.problem import check_unknown_status, problem
from backstay.url import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response

__all__ = ["install"]

_TRY_AGAIN_LATER, _INTERNAL_ERROR = 1013, 1011  # WebSocket close codes


def install(app: Starlette, *, unknown_status: int = 500) -> None:
    """Answer each kind of Backstay error with its HTTP status and a problem document.

    `Rejected` gives 429, 409 or 503, with `Retry-After` where the error knows it; `Unavailable` gives 503,
    `OutcomeUnknown` 500 or 202 with what to ask, `Misuse` 500. Other errors are left alone. An application's
    own handler for a subclass goes before these. A WebSocket is closed with 1013 (try again later) or 1011.

    Args:
        app: the application; `FastAPI` is a `Starlette`.
        unknown_status: 500, or 202 where clients know to ask again.

    Raises:
        Misuse: `unknown_status` is another number.
        MissingExtra: Starlette is not installed.
    """
    check_unknown_status(unknown_status)
    response: type[Response] = require("starlette.responses", "fastapi").Response

    async def answer(connection: Any, error: Exception) -> Response | None:
        if not isinstance(error, BackstayError):  # Starlette hands over only what it was registered for
            raise error
        if connection.scope["type"] == "websocket":
            later = isinstance(error, Rejected | Unavailable)
            await connection.close(_TRY_AGAIN_LATER if later else _INTERNAL_ERROR, error.title)
            return None
        found = problem(error, unknown_status=unknown_status)
        return response(found.body, status_code=found.status, headers=found.headers)

    serves_both: Any = answer  # Starlette's types know handlers of requests and of WebSockets, not one for both
    app.add_exception_handler(BackstayError, serves_both)
