"""Source and age of the reads of a request in the header of a Flask application's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import wsgi

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["install"]


def install(app: Flask, *, warning: bool = False) -> None:
    """Say in `Age` and `Cache-Status` where the reads of each request came from.

    Args:
        app: the application.
        warning: see `wsgi.SaysReads`.
    """
    inner: Any = app.wsgi_app
    app.wsgi_app = wsgi.SaysReads(inner, warning=warning)  # type: ignore[method-assign]  # Flask's place for middleware
