"""From a function and a list of policies to one function with the same face (IN-3, AS-2)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from backstay.errors import Misuse

from .policy import ORDER, Policy, Target

__all__ = ["compose", "target_of"]


def target_of(function: Any, resource: str) -> Target:
    """Look at what is to be protected.

    Raises:
        Misuse: it is a class, a generator function, or a `classmethod` or `staticmethod` object.
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
    candidates = (inner, getattr(kind, "__call__", None))  # noqa: B004  # an object may have an async __call__
    label = getattr(inner, "__qualname__", None) or kind.__qualname__
    if any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in candidates):
        raise Misuse(
            f"{resource!r}: {label}() is a generator function; its work happens while it is iterated, after the "
            "call. Protect the function that iterates it"
        )
    is_async = any(inspect.iscoroutinefunction(each) for each in candidates)
    return Target(function=function, resource=resource, label=label, is_async=is_async)


def compose(policies: Sequence[Policy], target: Target) -> Any:
    """Return `target` inside `policies`, outermost first in `ORDER`; name, signature and colour are the target's."""
    call: Any = target.function
    for policy in sorted(policies, key=lambda policy: ORDER.index(policy.kind), reverse=True):
        call = policy.wrap_async(call, target) if target.is_async else policy.wrap(call, target)
    return functools.update_wrapper(call, target.function)
