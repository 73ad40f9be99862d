"""The circuit breaker as a policy: a decorator, a block, a layer of a pipeline."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Unpack

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..policy import Admission, Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from .circuit import Circuit, Ticket
from .events import Listener
from .guard import guard, guard_results
from .guard_async import guard_async, guard_async_results
from .outcomes import Which, judge_of
from .settings import BreakerOptions, BreakerSettings
from .snapshot import Snapshot
from .states import Cause, State
from .telemetry import export_states

__all__ = ["CircuitBreaker"]

# The time of `monotonic` without the frame of a Python function, which would be a fifth of a call through a window.
_quick: Clock = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class CircuitBreaker(Layer):
    """Refuses calls at once while the dependency behind them fails, and finds out with a few probes when it may stop.

        payments = CircuitBreaker("payments", failure_rate=0.5, minimum_calls=10, window=10.0, open_for=30)

        @payments
        async def charge(order_id: int) -> Receipt: ...

    One breaker stands for one dependency and may be put round any number of functions, `def`, `async def` and
    streams, in any number of threads and event loops. While it probes, at most `probes` calls are in flight or
    done, in this process. A result counts in the state in which its call began. No lock is held over a call.

    Args:
        name: of the dependency, in telemetry and errors; one breaker a name.
        settings: all settings at once, instead of the keywords.
        failure: which exceptions are failures, by class or function. Others are successes: the dependency answered.
        ignored: which exceptions say nothing about the dependency; looked at first.
        failure_result: which results are failures, such as a response with status 503. Costs a call on each success.
        listeners: told of each transition; see `listen`.
        clock: monotonic seconds.
        uniform: a random number between two, for jitter.
        options: the settings as keywords; see `BreakerSettings`.

    Raises:
        Misuse: at construction, for any setting that is wrong.
    """

    kind = "circuit_breaker"

    def __init__(
        self,
        name: str,
        *,
        settings: BreakerSettings | None = None,
        failure: Which = Exception,
        ignored: Which = (),
        failure_result: Callable[[Any], bool] | None = None,
        listeners: Iterable[Listener] = (),
        clock: Clock = monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        **options: Unpack[BreakerOptions],
    ) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"a circuit breaker needs the dependency's name first, got {name!r}")
        if settings is not None and options:
            raise Misuse(f"breaker {name!r}: give settings= or {', '.join(sorted(options))}, not both")
        if settings is None:
            settings = BreakerSettings.of(options)
        told: Any = failure_result
        if told is not None and (not callable(told) or inspect.iscoroutinefunction(told)):
            raise Misuse(f"breaker {name!r}: failure_result must be a plain function of the result")
        self.name = name
        ticking = _quick if clock is monotonic else clock
        self.circuit = Circuit(name, settings, judge_of(failure, ignored), listeners, ticking, uniform)
        self._failure_result = failure_result
        export_states(name, self.circuit.is_in, self.circuit.spent)

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, {self.state.value})"

    # -- calls

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the breaker."""
        if self._failure_result is not None:
            return guard_results(self.circuit, call, self._failure_result)
        return guard(self.circuit, call)

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return the coroutine function `call` behind the breaker."""
        if self._failure_result is not None:
            return guard_async_results(self.circuit, call, self._failure_result)
        return guard_async(self.circuit, call)

    def admit(self, target: Target) -> Admit:
        """Return what admits a stream or a block; its outcome is recorded when it ends (CB-10)."""

        def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return self._settled(self.circuit.admit())

        return admitted

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return what admits a stream or a block on an event loop."""

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return self._settled(self.circuit.admit())

        return admitted

    def admission(self) -> Admission:
        """Return a context manager that puts the breaker round a block: `with` and `async with`."""
        return Admission(self, self.name)

    def _settled(self, ticket: Ticket) -> Settle:
        def settle(error: BaseException | None) -> None:
            self.circuit.settle(ticket, error)

        return settle

    # -- state

    @property
    def state(self) -> State:
        """What the breaker does with calls now. An open one whose wait is over stays open until the next call."""
        return self.circuit.episode.state

    @property
    def settings(self) -> BreakerSettings:
        """The settings that hold now."""
        return self.circuit.settings

    def snapshot(self) -> Snapshot:
        """Return the state and the numbers behind it."""
        return self.circuit.snapshot()

    def reconfigure(self, settings: BreakerSettings) -> None:
        """Go on under other settings, in the same state.

        What the window holds is kept as long as it is of the same kind; no call sees a mixture. An open breaker
        keeps its wait.
        """
        given: Any = settings
        if not isinstance(given, BreakerSettings):
            raise Misuse(f"breaker {self.name!r}: reconfigure takes BreakerSettings, got {settings!r}")
        self.circuit.reconfigure(settings)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called with each `Transition`, in the thread or task of the call that made it.

        It is called without a lock, in order, and what it raises is logged. Quick, since a call waits for it.

        Returns:
            A function that ends it.
        """
        return self.circuit.post.listen(listener)

    def force_open(self) -> None:
        """Refuse all calls until somebody closes the breaker."""
        self.circuit.move(Cause.MANUAL_FORCE_OPEN)

    def disable(self) -> None:
        """Let all calls through and watch nothing, until somebody closes the breaker."""
        self.circuit.move(Cause.MANUAL_DISABLE)

    def metrics_only(self) -> None:
        """Let all calls through and watch them without ever opening, until somebody closes the breaker."""
        self.circuit.move(Cause.MANUAL_METRICS_ONLY)

    def open(self) -> None:
        """Open as after failures: probes follow when the wait is over."""
        self.circuit.move(Cause.MANUAL_OPEN)

    def half_open(self) -> None:
        """Begin a round of probes now."""
        self.circuit.move(Cause.MANUAL_HALF_OPEN)

    def close(self) -> None:
        """Close, with an empty window, from any state: back to automatic work."""
        self.circuit.move(Cause.MANUAL_CLOSE)
