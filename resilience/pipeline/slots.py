"""What a decorated function calls: one reference, so that a pipeline can change while calls run.

A call reads the reference once, and then runs in the chain that it found: calls under way end in the old one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..bulkhead import ThreadPool
from ..fallback import Fallback
from ..policy import (
    Colour,
    Policy,
    Settle,
    Target,
    admit_all,
    admit_all_async,
    chain,
    stream,
    stream_async,
)
from ..switches.policy import SwitchPolicy

__all__ = ["Slot", "face"]


class Slot:
    """One function, block or stream of a pipeline, with the compiled view of the policies round it.

    Attributes:
        call: the chain; or, where the pipeline only admits, what admits.
    """

    __slots__ = ("__weakref__", "_admits", "call", "target")

    def __init__(self, target: Target, policies: Sequence[Policy], *, admits: bool = False) -> None:
        self.target = target
        self._admits = admits or target.is_stream
        self.call: Any = self.compiled(policies)

    def compiled(self, policies: Sequence[Policy]) -> Any:
        """Return what `call` is to be for these policies, and change nothing yet.

        Raises:
            Misuse: one of them cannot go round this.
        """
        if self._admits:
            return (admit_all_async if self.target.is_async else admit_all)(policies, self.target)
        pooled = any(isinstance(policy, ThreadPool) for policy in policies)
        return chain(_covered(policies), replace(self.target, pooled=pooled) if pooled else self.target)


def _covered(policies: Sequence[Policy]) -> Sequence[Policy]:
    """Let the fallback answer for a switch, which stands outside it and must not be charged or retried."""
    covers = [policy for policy in policies if isinstance(policy, Fallback)]
    if not covers:
        return policies
    return [policy.covered(covers[0]) if isinstance(policy, SwitchPolicy) else policy for policy in policies]


def face(slot: Slot) -> Any:
    """Return a function that looks like the slot's target and calls whatever the slot holds."""
    made = _FACES[slot.target.colour](slot)
    return functools.update_wrapper(made, slot.target.function)


def _function(slot: Slot) -> Any:
    def protected(*args: Any, **kwargs: Any) -> Any:
        return slot.call(*args, **kwargs)

    return protected


def _coroutine(slot: Slot) -> Any:
    async def protected(*args: Any, **kwargs: Any) -> Any:
        return await slot.call(*args, **kwargs)

    return protected


def _generator(slot: Slot) -> Any:
    def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        admitted: Settle = slot.call(args, kwargs)
        return admitted

    return stream(slot.target.function, admit)


def _async_generator(slot: Slot) -> Any:
    async def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        admitted: Settle = await slot.call(args, kwargs)
        return admitted

    return stream_async(slot.target.function, admit)


_FACES = {
    Colour.FUNCTION: _function,
    Colour.COROUTINE: _coroutine,
    Colour.GENERATOR: _generator,
    Colour.ASYNC_GENERATOR: _async_generator,
}
