"""The level as a policy: it counts how calls end, and refuses them where the level says so, but for probes."""

from __future__ import annotations

from typing import Any

from ..policy import Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from .resource import Resource

__all__ = ["LevelPolicy"]


class LevelPolicy(Layer):
    """Feeds a resource's level with the outcomes of calls, and acts on it.

    Stands inside the fallback, which answers what it refuses, and outside everything else, so that it hears of a
    call as its caller would: after retries, with refusals of limits and breakers told apart from errors. A call
    that it refuses raises `Degraded` and is not counted (DG-3).

    Args:
        resource: from `Levels.of`.
    """

    kind = "level"

    def __init__(self, resource: Resource) -> None:
        self.name = resource.name
        self._resource = resource

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the level."""
        resource, record = self._resource, self._resource.record

        def levelled(*args: Any, **kwargs: Any) -> Any:
            if resource.refused and not resource.probe():
                raise resource.refusal()
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                record(error)
                raise
            record(None)
            return result

        return levelled

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return the coroutine function `call` behind the level."""
        resource, record = self._resource, self._resource.record

        async def levelled(*args: Any, **kwargs: Any) -> Any:
            if resource.refused and not resource.probe():
                raise resource.refusal()
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                record(error)
                raise
            record(None)
            return result

        return levelled

    def admit(self, target: Target) -> Admit:
        """Return what admits a stream or a block; it is counted when it ends."""
        resource, record = self._resource, self._resource.record

        def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            if resource.refused and not resource.probe():
                raise resource.refusal()
            return record

        return admitted

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return the same for code on an event loop."""
        admit = self.admit(target)

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return admit(args, kwargs)

        return admitted
