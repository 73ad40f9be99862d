"""Policies round a WSGI application: Flask, Django, or a bare function.

    app.wsgi_app = wsgi.Protect(app.wsgi_app, policies=[limit, bulkhead], name="web")

Streams stay streams: the body is handed on item by item, and its `close()` is called as the server calls ours.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from backstay.errors import BackstayError
from backstay.problem import check_unknown_status

from ..policy import Settle
from ..policy.together import admit_all
from ..timeout import DEADLINE_HEADER, deadline, read_deadline
from .answers import SERVER_ERRORS, Policies, listed, outcome, request_target, settle_once
from .refusals import header_pairs, refusal, status_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    Info = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None

__all__ = ["Protect"]

_DEADLINE = "HTTP_" + DEADLINE_HEADER.upper().replace("-", "_")


class Protect:
    """Admits each request through policies, and settles when the server has closed the answer.

    A refusal is answered with 429 or 503, a problem document and `Retry-After`, and the application is not
    called. Guaranteed: what was admitted is settled once, at the end or the close of the body, whichever comes
    first, or with the exception that ended it. A list or tuple is handed on as it is, so that servers still
    see its length; the application has done its work by then, and it is settled at once. A body made by
    `wsgi.file_wrapper` is sent item by item, without the server's shortcut for files.

    Which policies can stand here, and the arguments, are as for `asgi.Protect`; a limit's `key` and `exempt`
    are functions of the WSGI environ.

    Args:
        app: the application.
        policies: one or several, the outermost first.
        name: of what is protected.
        failures: the statuses that are failures to breakers and operations.
        exempt: says of an environ that it passes without any policy.
        deadlines: take over the deadline that the caller sends, while the application is called; a body that is
            produced later is outside it.
        unknown_status: what answers an unknown outcome: 500 or 202.

    Raises:
        Misuse: a policy cannot stand here; when the middleware is made.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        policies: Policies,
        name: str = "web",
        failures: Container[int] = SERVER_ERRORS,
        exempt: Callable[[WSGIEnvironment], bool] | None = None,
        deadlines: bool = False,
        unknown_status: int = 500,
    ) -> None:
        self.app = app
        self._admit = admit_all(listed(policies), request_target(name, is_async=False))
        self._failures = failures
        self._exempt = exempt
        self._deadlines = deadlines
        self._unknown_status = check_unknown_status(unknown_status)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if self._exempt is not None and self._exempt(environ):
            return self.app(environ, start_response)
        try:
            settle = settle_once(self._admit((environ,), {}))
        except BackstayError as error:
            answer = refusal(error, unknown_status=self._unknown_status)
            start_response(status_line(answer.status), list(header_pairs(answer)))
            return [answer.body]
        status: list[int] = []

        def started(line: str, headers: list[tuple[str, str]], exc_info: Info = None, /) -> Callable[[bytes], object]:
            status[:] = [int(line[:3])]
            return start_response(line, headers) if exc_info is None else start_response(line, headers, exc_info)

        def ended() -> None:
            settle(outcome(status[0] if status else None, self._failures))

        left = read_deadline({DEADLINE_HEADER: environ.get(_DEADLINE, "")}) if self._deadlines else None
        try:
            if left is None:
                body = self.app(environ, started)
            else:
                with deadline(left):
                    body = self.app(environ, started)
        except BaseException as error:
            settle(error)
            raise
        if isinstance(body, list | tuple):
            ended()
            return body
        return _Body(body, settle, ended)


class _Body:
    """An answer's body that says when it ended. It is left to the server to begin it, as without us."""

    def __init__(self, body: Iterable[bytes], settle: Settle, ended: Callable[[], None]) -> None:
        self._body: Any = body
        self._items: Iterator[bytes] | None = None
        self._settle = settle
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._items is None:
                self._items = iter(self._body)
            return next(self._items)
        except StopIteration:
            raise  # the server still has to send the last item, and then calls close()
        except BaseException as error:
            self._settle(error)
            raise

    def close(self) -> None:
        """Close the application's body, then settle; servers call it however the request ended."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._settle(error)
            raise
        self._ended()

    def __del__(self) -> None:
        self._ended()  # a server that breaks the rule and never calls close() loses no permit
