"""Run once: a job runs once for each key, over all workers, and another runs it where the first one failed.

The key's mutex is held while the job runs; a document says that it is done. The mark is written after the job and
before the mutex is given back, so the guarantee is *at least once*: a worker that dies between the end of the job and
its mark has the job run again. For an effect that happens exactly once, have the resource refuse what it has seen
(`current_lease().fence`, or the key itself).
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from backstay.blocking import drive
from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.keys import Template

from ..claims import Resource
from ..guard import current_lease, guarded
from ..leases.lease import TICK
from ..options import Terms
from .mutex import AsyncMutex, Mutex, Reach

__all__ = ["Once", "once"]

P = ParamSpec("P")
T = TypeVar("T")

WITHIN = 10.0  # s to write or read a mark


class Once(Protocol):
    """The decorator that `locks.once(...)` returns, for `def` and `async def`.

    The decorated function returns what the job returned, and None where it had run already.
    """

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T | None]]: ...

    @overload
    def __call__(self, function: Callable[P, T], /) -> Callable[P, T | None]: ...


class Marks:
    """What is done already, as documents."""

    def __init__(self, reach: Reach, keep: float) -> None:
        self._reach, self._keep = reach, keep

    async def done(self, key: str) -> bool:
        """Return whether the job of that key is done."""
        protocol = self._reach()
        documents, runtime = protocol.backend.documents, protocol.runtime
        if documents is None:
            raise Misuse(f"{protocol.backend.label} keeps no documents, so it has no once; use Redis, SQL or memory")
        until = runtime.now() + WITHIN
        while True:
            try:
                return await documents.read(Resource(key, "once"), protocol.backend.patience) is not None
            except (Unavailable, OutcomeUnknown):
                if until - runtime.now() <= TICK:
                    raise
                await runtime.sleep(runtime.uniform(0.05, 0.2))

    async def mark(self, key: str, fence: int, owner: str) -> None:
        """Note that it is done; writing it again says nothing else."""
        protocol = self._reach()
        documents, runtime = protocol.backend.documents, protocol.runtime
        assert documents is not None  # asked before the job
        text = json.dumps({"v": 1, "fence": fence, "owner": owner}, separators=(",", ":"))
        until = runtime.now() + WITHIN
        while True:
            try:
                await documents.write(Resource(key, "once"), text, 0, self._keep, protocol.backend.patience)
                return
            except (Unavailable, OutcomeUnknown) as error:
                if until - runtime.now() <= TICK:
                    raise OutcomeUnknown(
                        f"once {key!r}: the job is done, but its mark may not be written; it may run again",
                        ask={"once": key},
                    ) from error
                await runtime.sleep(runtime.uniform(0.05, 0.2))


def once(
    blocking: Callable[[], Reach],
    asynchronous: Callable[[], Reach],
    template: str,
    keep: float,
    agreed: Terms,
) -> Once:
    """Return the decorator; see `Coordination.once`."""
    pattern = Template(template)
    shield = guarded(
        f"once:{template}",
        lambda name: Mutex.named(blocking(), name, agreed),
        lambda name: AsyncMutex.named(asynchronous(), name, agreed),
        agreed,
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        key = pattern.bind(function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                marks, name = Marks(asynchronous(), keep), key(args, kwargs)
                if await marks.done(name):
                    return None
                result = await function(*args, **kwargs)
                lease = current_lease()
                await marks.mark(name, lease.fence, lease.token)
                return result

            alone = shield(run_async)

            @functools.wraps(function)
            async def unless_done_async(*args: Any, **kwargs: Any) -> Any:
                if await Marks(asynchronous(), keep).done(key(args, kwargs)):
                    return None
                return await alone(*args, **kwargs)

            return unless_done_async

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            marks, name = Marks(blocking(), keep), key(args, kwargs)
            if drive(marks.done(name)):
                return None
            result = function(*args, **kwargs)
            lease = current_lease()
            drive(marks.mark(name, lease.fence, lease.token))
            return result

        alone = shield(run)

        @functools.wraps(function)
        def unless_done(*args: Any, **kwargs: Any) -> Any:
            if drive(Marks(blocking(), keep).done(key(args, kwargs))):
                return None
            return alone(*args, **kwargs)

        return unless_done

    return cast("Once", decorate)
