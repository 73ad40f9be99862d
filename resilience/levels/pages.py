"""Pages that degrade: blocks that a template leaves out, and a static page in place of the application.

    templates.env.globals["shows"] = levels.shows           # FastAPI; Flask: app.jinja_env.globals["shows"]
    {% if shows("recommendations") %} ... {% endif %}

    app.add_middleware(pages.Asgi, page=page)                # FastAPI, Starlette
    app.wsgi_app = pages.Wsgi(app.wsgi_app, page=page)       # Flask

Both middlewares count how requests end, so that the page goes away by itself; leave `measured` off where a policy
further in counts for the same resource.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import formatdate
from typing import Any, ParamSpec, TypeAlias, TypeVar

from backstay.clock import Clock
from backstay.errors import Misuse, Unavailable

from .resource import PROBING, Resource

__all__ = ["Asgi", "StaticPage", "Wsgi"]

P = ParamSpec("P")
T = TypeVar("T")

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Environ: TypeAlias = dict[str, Any]


class StaticPage:
    """An answer that is ready beforehand, for when its resource is degraded to its `static` level.

    The header fields hide nothing: `Age` and `Last-Modified` say when the page was made, `Retry-After` when to ask
    again, `Backstay-Level` which resource is how far degraded, and `Cache-Control: no-store` keeps caches from
    serving it when all is well again. Methods other than GET and HEAD are answered 503, whatever the status.

    Args:
        resource: decides whether it is served.
        body: text (as UTF-8) or bytes.
        status: 503 tells clients and searchers that this is not the page; 200 where people only read.
        media_type: of the body.
        made_at: seconds since 1970 when the body was made; now by default.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        resource: Resource,
        body: str | bytes,
        *,
        status: int = 503,
        media_type: str = "text/html; charset=utf-8",
        made_at: float | None = None,
        wall: Clock = time.time,
    ) -> None:
        if status not in (200, 503):
            raise Misuse(f"a static page answers 200 or 503, got {status!r}")
        if any(each in media_type for each in "\r\n"):
            raise Misuse(f"media_type must be one line, got {media_type!r}")
        self.resource = resource
        self._body = body.encode() if isinstance(body, str) else bytes(body)
        self._status = status
        self._media_type = media_type
        self._wall = wall
        self._made_at = wall() if made_at is None else made_at

    def answer(self, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, header fields and body for a request that the application does not see."""
        reads = method in ("GET", "HEAD")
        status = self._status if reads else 503
        resource = self.resource
        name = resource.name.encode("ascii", "replace").decode().replace("\\", "?").replace('"', "?")
        fields = [
            ("Content-Type", self._media_type),
            ("Content-Length", str(len(self._body))),
            ("Cache-Control", "no-store"),
            ("Age", str(max(0, math.ceil(self._wall() - self._made_at)))),
            ("Last-Modified", formatdate(self._made_at, usegmt=True)),
            ("Retry-After", str(math.ceil(resource.settings.probe_every))),
            ("Backstay-Level", f'{resource.level.word}; resource="{name}"'),
        ]
        return status, fields, b"" if method == "HEAD" else self._body

    def instead_of(self, view: Callable[P, T]) -> Callable[P, T]:
        """Return a Flask view, plain or async, for which the static page answers where the level says so.

        The view's own calls feed the level, by a policy or by `Wsgi`.
        """
        call: Any = view
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def viewed_async(*args: Any, **kwargs: Any) -> Any:
                return await call(*args, **kwargs) if self._passes() else self._flask_answer()

            return viewed_async  # type: ignore[return-value]  # the view's own face

        @functools.wraps(view)
        def viewed(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs) if self._passes() else self._flask_answer()

        return viewed

    def _passes(self) -> bool:
        return not self.resource.static or self.resource.probe()

    def _flask_answer(self) -> Any:
        from flask import request

        status, fields, body = self.answer(request.method)
        return body, status, fields


class Asgi:
    """Answers HTTP requests with a static page where the level says so; a share of probes goes through.

    Args:
        app: the application.
        page: what is served.
        measured: whether requests that go through feed the level: an answer of 500 and above, or an exception, is
            an error.
    """

    def __init__(self, app: Any, *, page: StaticPage, measured: bool = True) -> None:
        self._app = app
        self._page = page
        self._measured = measured

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one connection."""
        resource = self._page.resource
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not resource.static:
            await self._measure(scope, receive, send)
            return
        if not resource.probe():
            status, fields, body = self._page.answer(scope["method"])
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        token = PROBING.set(resource.name)
        try:
            await self._measure(scope, receive, send)
        finally:
            PROBING.reset(token)

    async def _measure(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if not self._measured:
            await self._app(scope, receive, send)
            return
        statuses: list[int] = []

        async def seen(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except BaseException as error:
            self._page.resource.record(error)
            raise
        self._page.resource.record(_failure(statuses[0] if statuses else 500))


class Wsgi:
    """The same for WSGI applications. A stream that breaks after its first line is not counted as an error.

    Args:
        app: the application.
        page: what is served.
        measured: see `Asgi`.
    """

    def __init__(self, app: Any, *, page: StaticPage, measured: bool = True) -> None:
        self._app = app
        self._page = page
        self._measured = measured

    def __call__(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        resource = self._page.resource
        if not resource.static:
            return self._measure(environ, start_response)
        if not resource.probe():
            status, fields, body = self._page.answer(environ["REQUEST_METHOD"])
            start_response(f"{status} {'OK' if status == 200 else 'Service Unavailable'}", fields)
            return [body]
        token = PROBING.set(resource.name)
        try:
            return self._measure(environ, start_response)
        finally:
            PROBING.reset(token)

    def _measure(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._measured:
            passed: Iterable[bytes] = self._app(environ, start_response)
            return passed
        record = self._page.resource.record

        def seen(status: str, *others: Any, **options: Any) -> Any:
            record(_failure(int(status[:3])))
            return start_response(status, *others, **options)

        try:
            answer: Iterable[bytes] = self._app(environ, seen)
        except BaseException as error:
            record(error)
            raise
        return answer


def _failure(status: int) -> Exception | None:
    return Unavailable(f"answered {status}") if status >= 500 else None
