"""Source and age of the reads of a request in the header of a FastAPI (or Starlette) application's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import asgi

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["install"]


def install(app: Starlette, *, warning: bool = False) -> None:
    """Say in `Age` and `Cache-Status` where the reads of each request came from.

    Args:
        app: the application; `FastAPI` is a `Starlette`.
        warning: see `asgi.SaysReads`.
    """
    app.add_middleware(asgi.SaysReads, warning=warning)
