"""Port of the pipeline: what a policy must do to join, and what it is put round.

A policy is an object with state and two short functions that wrap the next call, one a colour. They are a
pair over one state because a coroutine driven from blocking code would cost more than a whole policy does
(design 2.10); whatever is not on the way of a successful call they share. The list of policies is the truth,
the closures are a compiled view of it.

A policy that only admits a call and hears how it ended is `Admitting` as well. That is all that streams,
`with` blocks and middlewares need, whose end is not the return of a function (CB-10).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Admit", "AdmitAsync", "Admitting", "AsyncCall", "Call", "Colour", "Policy", "Served", "Settle", "Target"]

Call: TypeAlias = Callable[..., Any]
AsyncCall: TypeAlias = Callable[..., Awaitable[Any]]

Settle: TypeAlias = Callable[[BaseException | None], None]
"""Tells a policy how an admitted call ended: None for well, else the exception. Called once; never raises."""

Admit: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Settle]
"""Admits a call of these arguments, or raises the refusal."""

AdmitAsync: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Awaitable[Settle]]


class Colour(Enum):
    """What calling a function gives."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The function that is protected.

    Attributes:
        function: as it was given.
        resource: the configured name, for telemetry.
        label: the function's own name, for errors.
        colour: what calling it gives.
        pooled: a thread pool of the same pipeline runs it, so that its caller can stop waiting.
    """

    function: Call
    resource: str
    label: str
    colour: Colour
    pooled: bool = False

    @property
    def is_async(self) -> bool:
        """Whether it runs on an event loop."""
        return self.colour in (Colour.COROUTINE, Colour.ASYNC_GENERATOR)

    @property
    def is_stream(self) -> bool:
        """Whether calling it only makes what is iterated later."""
        return self.colour in (Colour.GENERATOR, Colour.ASYNC_GENERATOR)


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


@runtime_checkable
class Admitting(Protocol):
    """A policy that can go round a stream or a block of code: it admits, and hears of the end."""

    def admit(self, target: Target) -> Admit:
        """Return what admits a call; it may block the thread for as long as the policy allows."""
        ...

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return what admits a call on an event loop."""
        ...
