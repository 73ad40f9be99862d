"""What a decorator was put above: a function, a coroutine function or a stream, or nothing that can be protected."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from backstay.errors import Misuse

from .port import Colour, Target

__all__ = ["block_of", "target_of"]


def target_of(function: Any, resource: str) -> Target:
    """Look at what is to be protected (AS-2).

    Raises:
        Misuse: it is a class, nothing callable, or a `classmethod` or `staticmethod` object.
    """
    if isinstance(function, classmethod | staticmethod):
        above = "classmethod" if isinstance(function, classmethod) else "staticmethod"
        raise Misuse(f"{resource!r}: put the decorator below @{above}, so that it sees the function itself")
    if not callable(function) or isinstance(function, type):
        raise Misuse(f"{resource!r} needs a function, got {function!r:.100}")
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    kind: Any = inner.__class__
    label = getattr(inner, "__qualname__", None) or kind.__qualname__
    candidates = (inner, getattr(kind, "__call__", None))  # noqa: B004  # an object may have an async __call__
    return Target(function=function, resource=resource, label=label, colour=_colour(candidates))


@functools.lru_cache(maxsize=1024)
def block_of(resource: str, *, is_async: bool) -> Target:
    """Return the target that a `with` block or a middleware stands for, the same one each time."""
    colour = Colour.COROUTINE if is_async else Colour.FUNCTION
    return Target(function=_block, resource=resource, label=resource, colour=colour)


def _block() -> None:
    """Stand for code that is no function."""


def _colour(candidates: tuple[Any, ...]) -> Colour:
    for each in candidates:
        if inspect.isasyncgenfunction(each):
            return Colour.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(each):
            return Colour.GENERATOR
        if inspect.iscoroutinefunction(each):
            return Colour.COROUTINE
    return Colour.FUNCTION
