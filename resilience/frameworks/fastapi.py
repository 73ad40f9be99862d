"""Policies round a whole FastAPI application, or round one endpoint to the end of what it streams.

    fastapi.install(app, policies=[limit, bulkhead])      # every request, and Backstay's errors as answers

    @app.get("/export", dependencies=[Depends(fastapi.admission(bulkhead, name="export"))])
    async def export() -> StreamingResponse: ...          # a permit until the last byte was sent

For anything else `protect` goes on endpoints and on dependencies as it is, `yield` dependencies included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container
from typing import TYPE_CHECKING, Any

import backstay.fastapi
from backstay.url import require

from ..policy import Admitting, Policy
from ..policy.together import admit_all_async
from . import asgi
from .answers import SERVER_ERRORS, Policies, listed, request_target, settle_once

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection
else:  # FastAPI reads the annotation of the dependency when the application is made
    HTTPConnection = require("starlette.requests", "fastapi").HTTPConnection

__all__ = ["admission", "install"]


def install(app: Starlette, *, policies: Policies, name: str = "web", **options: Any) -> None:
    """Put policies round all requests of `app`, and answer Backstay's errors that endpoints raise.

    Args:
        app: the application; `FastAPI` is a `Starlette`.
        policies: see `asgi.Protect`.
        name: of what is protected.
        options: the other arguments of `asgi.Protect`.

    Raises:
        Misuse: a policy cannot stand here; when the application starts, or `unknown_status` at once.
        MissingExtra: Starlette is not installed.
    """
    app.add_middleware(asgi.Protect, policies=policies, name=name, **options)
    backstay.fastapi.install(app, unknown_status=options.get("unknown_status", 500))


def admission(
    *policies: Policy | Admitting, name: str, failures: Container[int] = SERVER_ERRORS
) -> Callable[..., AsyncIterator[None]]:
    """Return a dependency that admits a request, or a WebSocket, and settles after the answer was sent.

    An endpoint that raises is settled with its error; an `HTTPException` below 500 is a success. FastAPI
    before 0.118 ends dependencies before it sends a stream; there use `asgi.Protect`.

    Args:
        policies: the outermost first; only such as can go round a stream. A limit's `key` is a function of the
            `HTTPConnection`.
        name: of what is protected.
        failures: the statuses that are failures, where an exception carries one.

    Raises:
        Misuse: a policy cannot stand here; at once.
        RateLimited, BulkheadFull, BreakerOpen: from the dependency; `backstay.fastapi.install` answers them.
    """
    admit = admit_all_async(listed(policies), request_target(name, is_async=True))
    answer: type[Exception] = require("starlette.exceptions", "fastapi").HTTPException

    async def admitted(connection: HTTPConnection) -> AsyncIterator[None]:
        settle = settle_once(await admit((connection,), {}))
        try:
            yield
        except BaseException as error:
            is_success = isinstance(error, answer) and getattr(error, "status_code", 500) not in failures
            settle(None if is_success else error)
            raise
        settle(None)

    return admitted
