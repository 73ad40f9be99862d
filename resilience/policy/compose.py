"""From a function and a list of policies to one function with the same face (IN-3, AS-2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from backstay.errors import Misuse

from .order import ORDER
from .port import Admitting, Colour, Policy, Target
from .streams import stream, stream_async
from .target import target_of

__all__ = ["Layer", "compose", "compose_as_given"]

P = ParamSpec("P")
T = TypeVar("T")


def compose(policies: Sequence[Policy], target: Target) -> Any:
    """Return `target` inside `policies`, outermost first in `ORDER`; name, signature and colour are the target's."""
    return compose_as_given(sorted(policies, key=lambda policy: ORDER.index(policy.kind)), target)


def compose_as_given(policies: Sequence[Policy], target: Target) -> Any:
    """Return `target` inside `policies`, the first one outermost.

    Raises:
        Misuse: a policy cannot go round this function, or its configuration does not fit.
    """
    call: Any = target.function
    for policy in reversed(policies):
        call = _wrapped(policy, call, target)
    return functools.update_wrapper(call, target.function)


def _wrapped(policy: Policy, call: Any, target: Target) -> Any:
    if target.colour is Colour.COROUTINE:
        return policy.wrap_async(call, target)
    if target.colour is Colour.FUNCTION:
        return policy.wrap(call, target)
    if not isinstance(policy, Admitting):
        raise Misuse(
            f"{target.resource!r}: {target.label}() is a {target.colour.value} function, and {policy.kind} cannot go "
            "round what is produced while it is iterated; protect the function that iterates it"
        )
    if target.colour is Colour.GENERATOR:
        return stream(call, policy.admit(target))
    return stream_async(call, policy.admit_async(target))


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
