"""From a function and a list of policies to one function with the same face (IN-3, AS-2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from .colours import awaiting_nothing, may_return_a_coroutine
from .order import ORDER
from .port import AsyncCall, Call, Colour, Policy, Served, Target
from .streams import stream, stream_async
from .target import target_of
from .together import admit_all, admit_all_async

__all__ = ["Layer", "chain", "compose", "compose_as_given"]

P = ParamSpec("P")
T = TypeVar("T")

_SERVING = ("switch", "fallback")  # they answer by `Served`, which somebody outside has to unpack


def compose(policies: Sequence[Policy], target: Target) -> Any:
    """Return `target` inside `policies`, outermost first in `ORDER`; name, signature and colour are the target's."""
    return compose_as_given(sorted(policies, key=lambda policy: ORDER.index(policy.kind)), target)


def compose_as_given(policies: Sequence[Policy], target: Target) -> Any:
    """Return `target` inside `policies`, the first one outermost.

    Raises:
        Misuse: a policy cannot go round this function, or its configuration does not fit.
    """
    call = chain(policies, target)
    return call if call is target.function else functools.update_wrapper(call, target.function)


def chain(policies: Sequence[Policy], target: Target) -> Any:
    """Return the bare closures of `policies` round `target`, the first one outermost; its face is not the target's.

    Raises:
        Misuse: as for `compose_as_given`.
    """
    if target.colour is Colour.GENERATOR:
        return stream(target.function, admit_all(policies, target)) if policies else target.function
    if target.colour is Colour.ASYNC_GENERATOR:
        return stream_async(target.function, admit_all_async(policies, target)) if policies else target.function
    call: Any = target.function
    if policies and not target.is_async and may_return_a_coroutine(call):
        call = awaiting_nothing(call, target)
    for policy in reversed(policies):
        call = policy.wrap_async(call, target) if target.is_async else policy.wrap(call, target)
    if policies and policies[0].kind != "operation" and any(policy.kind in _SERVING for policy in policies):
        return _unpacking_async(call) if target.is_async else _unpacking(call)
    return call


def _unpacking(call: Call) -> Call:
    def unpacked(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        return result.value if result.__class__ is Served else result

    return unpacked


def _unpacking_async(call: AsyncCall) -> AsyncCall:
    async def unpacked(*args: Any, **kwargs: Any) -> Any:
        result = await call(*args, **kwargs)
        return result.value if result.__class__ is Served else result

    return unpacked


class Layer:
    """A policy that is a decorator by itself: `@breaker`, on `def`, `async def` and, where it can, on streams."""

    name: str
    kind: str

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return `function` inside this policy; name, signature and colour stay.

        Raises:
            Misuse: the policy cannot go round it.
        """
        layer: Any = self
        protected: Callable[P, T] = compose_as_given((layer,), target_of(function, self.name))
        return protected
