"""A policy that only admits and notes what it hears, for tests of what goes round streams and requests."""

from __future__ import annotations

from typing import Any

from backstay.errors import BulkheadFull
from backstay.resilience.policy import Admit, AdmitAsync, AsyncCall, Call, Settle, Target


class Recorder:
    """Admits `permits` calls at once; `told` are the ends it heard of, `seen` the first argument of each call."""

    kind = "bulkhead"

    def __init__(self, permits: int = 100, name: str = "recorder") -> None:
        self.name = name
        self.permits = permits
        self.active = 0
        self.told: list[BaseException | None] = []
        self.seen: list[Any] = []

    def wrap(self, call: Call, target: Target) -> Call:
        raise AssertionError("what goes round streams is to be admitted, not wrapped")

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        raise AssertionError("what goes round streams is to be admitted, not wrapped")

    def admit(self, target: Target) -> Admit:
        return lambda args, kwargs: self._admit(args)

    def admit_async(self, target: Target) -> AdmitAsync:
        async def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return self._admit(args)

        return admit

    def _admit(self, args: tuple[Any, ...]) -> Settle:
        if self.active == self.permits:
            raise BulkheadFull(f"{self.name} is full", retry_after=0.5)
        self.active += 1
        self.seen.append(args[0] if args else None)

        def settle(error: BaseException | None) -> None:
            self.active -= 1
            self.told.append(error)

        return settle


class CallsOnly:
    """A policy that calls functions and cannot admit, as retry does."""

    kind = "retry"
    name = "calls"

    def wrap(self, call: Call, target: Target) -> Call:
        return call

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        return call


class Again:
    """Calls up to `attempts` times without waiting; `heard` are the waits that failures asked for."""

    kind = "retry"
    name = "again"

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.heard: list[float | None] = []

    def wrap(self, call: Call, target: Target) -> Call:
        def again(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self.attempts - 1):
                try:
                    return call(*args, **kwargs)
                except Exception as error:
                    self.heard.append(getattr(error, "retry_after", None))
            return call(*args, **kwargs)

        return again

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        async def again(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self.attempts - 1):
                try:
                    return await call(*args, **kwargs)
                except Exception as error:
                    self.heard.append(getattr(error, "retry_after", None))
            return await call(*args, **kwargs)

        return again
