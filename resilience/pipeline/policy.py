"""Port of the pipeline: what a policy must do to join, and what it is put round.

A policy is an object with state and two short functions that wrap the next call, one a colour. They are a
pair over one state because a coroutine driven from blocking code would cost more than a whole policy does
(design 2.10); whatever is not on the way of a successful call they share. The list of policies is the truth,
the closures are a compiled view of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["ORDER", "AsyncCall", "Call", "Policy", "Served", "Target"]

Call: TypeAlias = Callable[..., Any]
AsyncCall: TypeAlias = Callable[..., Awaitable[Any]]

ORDER = ("operation", "switch", "fallback", "rate_limiter")
"""The order of policies, outermost first (CO-1): the limit is charged once a call, and a fallback runs once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The function that is protected.

    Attributes:
        function: as it was given.
        resource: the configured name, for telemetry.
        label: the function's own name, for errors.
        is_async: whether calling it gives an awaitable.
    """

    function: Call
    resource: str
    label: str
    is_async: bool


class Served:
    """A fallback's answer on its way out, so that the outermost policy counts it as degraded, and unpacks it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Policy(Protocol):
    """One layer of a pipeline. Mistakes in its configuration are raised by `wrap`, when the module is imported."""

    @property
    def kind(self) -> str:
        """The policy's place: a word of `ORDER`."""
        ...

    def wrap(self, call: Call, target: Target) -> Call:
        """Return a function that does the policy's part and calls `call`."""
        ...

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return an `async def` that does the policy's part and awaits `call`."""
        ...
