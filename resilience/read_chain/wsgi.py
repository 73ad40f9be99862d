"""Source and age of the reads of a request in the header of its answer, for WSGI: `app = wsgi.SaysReads(app)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .collected import reads
from .headers import added, said

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["SaysReads"]


class SaysReads:
    """Adds `Age` and `Cache-Status` for what was read until the application returned its answer.

    What a body reads while the server iterates it is not there, nor collected anywhere.

    Args:
        app: the application.
        warning: say `Warning: 110` as well where something was stale.
    """

    def __init__(self, app: WSGIApplication, *, warning: bool = False) -> None:
        self.app = app
        self._warning = warning

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        with reads() as collected:

            def started(
                line: str, headers: list[tuple[str, str]], exc_info: Any = None, /
            ) -> Callable[[bytes], object]:
                fields = said(collected, warning=self._warning)
                pairs = added(headers, fields) if fields else headers
                return start_response(line, pairs) if exc_info is None else start_response(line, pairs, exc_info)

            return self.app(environ, started)
