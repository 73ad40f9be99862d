"""The decorator: one call at a time for each key, on `def` and `async def` alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from backstay.errors import Misuse
from backstay.keys import Template

from .leases.handle import Held
from .options import Terms
from .recipes.mutex import AsyncSection, Section

__all__ = ["current_lease", "guarded"]

P = ParamSpec("P")
T = TypeVar("T")

_current: ContextVar[Held | None] = ContextVar("backstay_lease", default=None)


def current_lease() -> Held:
    """Return the lease under which the innermost guarded function runs, for its fence and `check()`.

    Raises:
        Misuse: no guarded function is running here.
    """
    lease = _current.get()
    if lease is None:
        raise Misuse("no guarded function is running here; decorate it with locks.guard(...)")
    return lease


def guarded(
    template: str,
    section: Callable[[str], Section[Any]],
    async_section: Callable[[str], AsyncSection[Any]],
    agreed: Terms,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return the decorator that runs a function under the lock that `template` makes of its arguments.

    Raises (when decorating):
        Misuse: the template names no parameter of the function, or the function is a generator, whose body
            runs after the call has returned, or a plain one that shall be cancelled.
    """
    pattern = Template(template)

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", repr(function))
            raise Misuse(f"{name}() is a generator: its body runs after the call; take the lock inside it")
        key = pattern.bind(function)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def under_async_lock(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with async_section(key(args, kwargs)) as lease:
                    before = _current.set(lease)
                    try:
                        return await function(*args, **kwargs)
                    finally:
                        _current.reset(before)

            return cast("Callable[P, T]", under_async_lock)

        if agreed.cancel_on_loss:
            raise Misuse("cancel_on_loss is for async def: a thread cannot be cancelled; check current_lease() in it")

        @functools.wraps(function)
        def under_lock(*args: P.args, **kwargs: P.kwargs) -> T:
            with section(key(args, kwargs)) as lease:
                before = _current.set(lease)
                try:
                    return function(*args, **kwargs)
                finally:
                    _current.reset(before)

        return under_lock

    return decorate
