"""Callbacks that do not keep their owner alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import TypeVar

__all__ = ["hold"]

T = TypeVar("T")


def hold(callback: Callable[[], T]) -> Callable[[], Callable[[], T] | None]:
    """Return a function that returns `callback`, or None once the owner of a bound method is gone.

    A bound method is held weakly, so that a limiter that nobody uses any more is not kept alive by its own
    gauge. Any other callable is held as it is, since nobody else may hold it.
    """
    if isinstance(callback, MethodType):
        try:
            return weakref.WeakMethod(callback)
        except TypeError:  # the owner's class has slots without `__weakref__`
            return lambda: callback
    return lambda: callback
