"""The switch service as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backstay import __version__
from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError
from backstay.problem import problem

from .access import Access, limiter
from .board import Board
from .errors import Conflict, Refused
from .requests import problem_answer
from .routes import config, events, instances, ofrep, page, session, tokens
from .service import Service
from .store import Store
from .validation import Check, Validation
from .watch import Watch

__all__ = ["create_app"]


def create_app(
    store: Store,
    *,
    sections: Mapping[str, Check] | None = None,
    files: Mapping[str, tuple[str, bytes]] | None = None,
    interval: float = 0.2,
    heartbeat: float = 5.0,
    login_rate: str = "10/minute;burst=10",
    refusal_rate: str = "60/minute;burst=30",
    public_url: str = "",
    clock: Clock = monotonic,
) -> FastAPI:
    """Return one replica of the switch service.

        app = create_app(Store("sqlite:///switches.db"))      # uvicorn module:app

    Guarantees: every change is compare-and-set on the version, checked as its readers check it, and written with its
    history and audit in one transaction; a change at one replica is pushed by all others within `interval`.

    Args:
        store: the database; several replicas may share one.
        sections: further sections of documents, with what checks them.
        files: of the page: content type and body by path.
        interval: seconds between two looks for what other replicas wrote.
        heartbeat: seconds between two signs of life on a stream.
        login_rate: attempts to log in, an address.
        refusal_rate: refused requests, an address, that are answered and written into the audit; beyond it 429.
        public_url: where clients reach the service, for URLs in answers; taken from the request where it is empty.
        clock: monotonic seconds, for the limits.

    Raises:
        Misuse: an option is out of range.
    """
    board, validation = Board(), Validation(sections)
    watch = Watch(store, board, validation, interval=interval)
    access = Access(store, watch, login_rate=login_rate, refusal_rate=refusal_rate, clock=clock)
    service = Service(
        store=store, board=board, watch=watch, access=access, validation=validation,
        epochs=limiter("switch_service.epochs", "10/hour;burst=5", clock), heartbeat=heartbeat,
        public_url=public_url.rstrip("/"),
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await watch.look()
        looking = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            looking.cancel()
            board.close()
            await asyncio.gather(looking, return_exceptions=True)

    app = FastAPI(
        title="Backstay switch service",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts of others
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    made = [each.router(service) for each in (config, events, instances, ofrep, tokens, session)]
    made.append(page.router(service, _page() if files is None else files))
    for router in made:
        app.router.routes.extend(router.routes)  # included routers are searched one by one: 10 µs a request
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(BackstayError, _failed)
    app.add_middleware(Headers)
    return app


def _page() -> Mapping[str, tuple[str, bytes]]:
    from . import page as own  # the routes have a module of this name as well

    return own.files()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem_answer(error)


async def _http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    return problem_answer(Refused(error.status_code, "Not here", str(error.detail), headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, BackstayError)
    if isinstance(error, Conflict):
        refused = Refused(409, error.title, str(error), further={"version": error.version})
        return problem_answer(refused)
    found = problem(error)
    return Response(found.body, status_code=found.status, headers={**found.headers, "Cache-Control": "no-store"})


class Headers:
    """Says on each answer what a browser must not do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        further = _SECURE if scope["scheme"] == "https" else _PLAIN

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = message["headers"]
                headers.extend(further)
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers.append(_NOTHING_LOADS)
            await send(message)

        await self._app(scope, receive, told)


_PLAIN = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_SECURE = [*_PLAIN, (b"strict-transport-security", b"max-age=31536000")]
_NOTHING_LOADS = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
