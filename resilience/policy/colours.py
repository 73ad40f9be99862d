"""Functions that are no `async def` and return a coroutine all the same: policies would settle before it ran (AS-2).

A look at every result costs 0.1 us a call, a quarter of a breaker. So only those are watched that often are disguises
of coroutine functions: lambdas, partials and callable objects, wrappers of an `async def`, and functions whose
annotation says so. Any other is found out by a pipeline, after its policies, and not by a policy that stands alone.
"""

from __future__ import annotations

import inspect
from types import CoroutineType, FunctionType, MethodType
from typing import Any

from backstay.errors import Misuse

from .port import Call, Target

__all__ = ["awaiting_nothing", "may_return_a_coroutine"]

_SAYING_SO = ("Awaitable", "Coroutine")


def may_return_a_coroutine(function: Any) -> bool:
    """Return whether calls of a function that is no `async def` are worth a look at what they return."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(plain, FunctionType) or plain.__name__ == "<lambda>":
        return True
    if inspect.iscoroutinefunction(inspect.unwrap(plain)):
        return True
    said = str(plain.__annotations__.get("return", ""))
    return any(word in said for word in _SAYING_SO)


def awaiting_nothing(call: Call, target: Target) -> Call:
    """Return `call`, which raises Misuse where it returns a coroutine; that is closed, and has done nothing."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if result.__class__ is CoroutineType:
            result.close()
            raise Misuse(
                f"{target.resource!r}: {target.label}() is no `async def` but returned a coroutine, which nobody "
                "awaits in here; protect the `async def` itself, or write one that awaits it"
            )
        return result

    return watched
