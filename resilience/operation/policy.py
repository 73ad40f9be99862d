"""The outermost policy: latency, traffic, errors and saturation of a protected function, by construction."""

from __future__ import annotations

import time
from types import CoroutineType
from typing import Any

from backstay.clock import Clock
from backstay.errors import Misuse, Rejected
from backstay.telemetry import Histogram, error_type, histogram, updown

from ..policy import Admit, AdmitAsync, AsyncCall, Call, Served, Settle, Target

__all__ = ["Operation"]


class Operation:
    """Measures each call once, with its outcome: ok, error, rejected, degraded or cancelled (section 7.3).

    There is no counter of calls: calls are the sum of the outcomes, so the two cannot disagree.
    """

    kind = "operation"

    def __init__(self, resource: str, *, clock: Clock = time.monotonic) -> None:
        self.name = self._resource = resource
        self._clock = clock
        self._ok = self._histogram("ok")
        self._degraded = self._histogram("degraded")
        self._active = updown("operation.active", "{operation}", resource=resource)
        self._others: dict[tuple[str, str], Histogram] = {}
        # Made here: the collector ends streams at any moment, in which nothing new should be made.
        self._others["cancelled", "GeneratorExit"] = self._histogram("cancelled", error_type="GeneratorExit")

    def _histogram(self, outcome: str, **attributes: Any) -> Histogram:
        return histogram("operation.duration", "s", resource=self._resource, outcome=outcome, **attributes)

    def failed(self, error: BaseException, seconds: float) -> None:
        """Record a call that ended in an exception. Cancellation, exit and interrupts are no errors (AS-3)."""
        outcome = "error" if isinstance(error, Exception) else "cancelled"
        if isinstance(error, Rejected):
            outcome = "rejected"
        kind = error_type(error)
        found = self._others.get((outcome, kind))
        if found is None:
            found = self._histogram(outcome, error_type=kind)
            if len(self._others) < 100:
                self._others[outcome, kind] = found
        found.record(seconds)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` measured."""
        clock, active, ok, degraded, label = self._clock, self._active, self._ok, self._degraded, target.label

        def measured(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            active.n += 1
            try:
                result = call(*args, **kwargs)
                if result.__class__ is CoroutineType:
                    result.close()
                    raise Misuse(f"{label}() is no `async def` but returned a coroutine, which nobody awaits in here")
            except BaseException as error:
                active.n -= 1
                self.failed(error, clock() - began)
                raise
            active.n -= 1
            if result.__class__ is Served:
                degraded.record(clock() - began)
                return result.value
            ok.record(clock() - began)
            return result

        return measured

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` measured."""
        clock, active, ok, degraded = self._clock, self._active, self._ok, self._degraded

        async def measured(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            active.n += 1
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                active.n -= 1
                self.failed(error, clock() - began)
                raise
            active.n -= 1
            if result.__class__ is Served:
                degraded.record(clock() - began)
                return result.value
            ok.record(clock() - began)
            return result

        return measured

    def admit(self, target: Target) -> Admit:
        """Return what measures a stream or a block from its first item or line to its end."""
        clock, active, ok = self._clock, self._active, self._ok

        def began(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            start = clock()
            active.n += 1

            def ended(error: BaseException | None) -> None:
                active.n -= 1
                if error is None:
                    ok.record(clock() - start)
                else:
                    self.failed(error, clock() - start)

            return ended

        return began

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return the same for code on an event loop."""
        begin = self.admit(target)

        async def began(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return begin(args, kwargs)

        return began
