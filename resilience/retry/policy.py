"""The retry as a policy. A call that succeeds at once passes a `try` and a counter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, TypedDict, Unpack

from backstay.blocking import drive
from backstay.clock import Clock, monotonic
from backstay.errors import Misuse
from backstay.telemetry.counters import new_counter

from ..forks import renew_in_child
from ..policy import AsyncCall, Call, Layer, Target
from ..timeout.deadline import deadline, leave
from .budget import RetryBudget
from .decision import Ended, Plan
from .repeatable import is_async
from .settings import RetryOptions, RetrySettings
from .state import ATTEMPT, RetryState
from .telemetry import Attempts

__all__ = ["Retry"]


def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # looked up each time: gevent replaces it


class Retry(Layer):
    """Calls again what failed, after a wait, as long as that makes sense.

    Tried again is an `Exception` of `on`, but never a `Misuse`, never an unknown outcome (unless `idempotent`), and
    never a cancellation, an interrupt or an exit (AS-3). It ends with the last attempt's result or its own error,
    which carries a note of the attempts. A wait that would outlast the deadline of the work in hand is not begun.
    Over all calls, retries are bounded by the budget. All attempts run in the caller's context.

        @Retry("payments", attempts=4, on=(ConnectionError,))
        def charge(order_id: int) -> Receipt: ...

    Args:
        name: of the policy, in telemetry and errors.
        settings: or each of them as a keyword, see `RetrySettings`.
        clock: monotonic seconds.
        sleep: waits in plain functions.
        sleep_async: waits in `async def`.

    Raises:
        Misuse: a setting is out of range; when applied, a hook is `async def` and the function is not.
    """

    kind = "retry"

    def __init__(
        self,
        name: str,
        *,
        settings: RetrySettings | None = None,
        clock: Clock = monotonic,
        sleep: Callable[[float], object] = _sleep,
        sleep_async: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **options: Unpack[RetryOptions],
    ) -> None:
        if settings is not None and options:
            raise Misuse(f"retry {name!r}: give settings= or {', '.join(options)}=, not both")
        self.name = name
        self._clock = clock
        self._sleep = sleep
        self._sleep_async = sleep_async
        self._plan = Plan(name, RetrySettings.of(settings if settings is not None else options), clock)
        self._budget = RetryBudget(**_tuning(self._plan.settings), now=clock())
        self._blocking = False
        self._failed = new_counter()
        self._attempts: list[Attempts] = []
        renew_in_child(self)

    def __str__(self) -> str:
        return self.name

    @property
    def settings(self) -> RetrySettings:
        """What is in force for calls that begin now."""
        return self._plan.settings

    def reconfigure(self, settings: RetrySettings) -> None:
        """Let calls that begin from now on be tried by these settings; what is in the budget stays.

        Raises:
            Misuse: a hook is `async def`, and plain functions use this retry.
        """
        if self._blocking:
            self._refuse_async(settings, "a plain function")
        self._plan = Plan(self.name, settings, self._clock)
        self._budget.retune(**_tuning(settings))

    def renew(self) -> None:
        """Make it usable in a forked child."""
        self._budget.renew()
        self._failed.zero()

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` with retries."""
        self._refuse_async(self._plan.settings, f"{target.label}()")
        self._blocking = True
        attempts = self._open(target)
        returned, canceled = attempts.returned, attempts.canceled

        def retried(*args: Any, **kwargs: Any) -> Any:
            plan = self._plan
            if plan.special:
                return self._run(plan, attempts, target, call, args, kwargs)
            try:
                result = call(*args, **kwargs)
            except Exception as error:
                state = RetryState(self, target.function, args, kwargs, plan.clock())
                state.ended(state.start_time, error=error)
            except BaseException:
                canceled.n += 1
                raise
            else:
                returned.n += 1
                return result
            return self._again(plan, attempts, call, state)

        return retried

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` with retries."""
        attempts = self._open(target)
        returned, canceled = attempts.returned, attempts.canceled

        async def retried(*args: Any, **kwargs: Any) -> Any:
            plan = self._plan
            if plan.special:
                return await self._run_async(plan, attempts, target, call, args, kwargs)
            try:
                result = await call(*args, **kwargs)
            except Exception as error:
                state = RetryState(self, target.function, args, kwargs, plan.clock())
                state.ended(state.start_time, error=error)
            except BaseException:
                canceled.n += 1
                raise
            else:
                returned.n += 1
                return result
            return await self._again_async(plan, attempts, call, state)

        return retried

    def _open(self, target: Target) -> Attempts:
        attempts = Attempts(self.name, target.resource)
        if all(known.returned is not attempts.returned for known in self._attempts):  # or its calls counted twice
            self._attempts.append(attempts)
        return attempts

    def _calls(self) -> int:
        return self._failed.total + sum(attempts.returned.total for attempts in self._attempts)

    def _refuse_async(self, settings: RetrySettings, label: str) -> None:
        for name, hook in settings.objects:
            if is_async(hook):
                raise Misuse(f"retry {self.name!r}: {name}= is async def, but {label} is not: nobody would await it")

    def _run(
        self, plan: Plan, attempts: Attempts, target: Target, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call for the first time, where more than a failure's error is needed."""
        state = RetryState(self, target.function, args, kwargs, plan.clock())
        limit = plan.settings.deadline
        with nullcontext() if limit is None else deadline(limit, clock=plan.clock):
            drive(plan.before(state))
            try:
                result = call(*args, **kwargs)
            except Exception as error:
                state.ended(plan.clock(), error=error)
            except BaseException:
                attempts.canceled.n += 1
                raise
            else:
                if not plan.shows_results:
                    attempts.returned.n += 1
                    return result
                state.ended(plan.clock(), value=result)
            return self._again(plan, attempts, call, state)

    async def _run_async(
        self,
        plan: Plan,
        attempts: Attempts,
        target: Target,
        call: AsyncCall,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        state = RetryState(self, target.function, args, kwargs, plan.clock())
        limit = plan.settings.deadline
        with nullcontext() if limit is None else deadline(limit, clock=plan.clock):
            await plan.before(state)
            try:
                result = await call(*args, **kwargs)
            except Exception as error:
                state.ended(plan.clock(), error=error)
            except BaseException:
                attempts.canceled.n += 1
                raise
            else:
                if not plan.shows_results:
                    attempts.returned.n += 1
                    return result
                state.ended(plan.clock(), value=result)
            return await self._again_async(plan, attempts, call, state)

    def _again(self, plan: Plan, attempts: Attempts, call: Call, state: RetryState) -> Any:
        """Go on from the first outcome to the last."""
        self._failed.n += 1
        token = ATTEMPT.set(1)
        try:
            while True:
                step = drive(plan.decide(state, attempts, self._budget, self._calls()))
                if isinstance(step, Ended):
                    return _result(step, state)
                self._sleep(step)
                state.prepare_for_next_attempt()
                ATTEMPT.set(state.attempt_number)
                drive(plan.before(state))
                try:
                    result = call(*state.args, **state.kwargs)
                except Exception as error:
                    state.ended(plan.clock(), error=error)
                else:
                    if not plan.shows_results:
                        attempts.end("returned", state.attempt_number)
                        return result
                    state.ended(plan.clock(), value=result)
        except BaseException as error:
            if not isinstance(error, Exception):
                attempts.end("canceled", state.attempt_number)
            raise
        finally:
            leave(ATTEMPT, token)

    async def _again_async(self, plan: Plan, attempts: Attempts, call: AsyncCall, state: RetryState) -> Any:
        self._failed.n += 1
        token = ATTEMPT.set(1)
        try:
            while True:
                step = await plan.decide(state, attempts, self._budget, self._calls())
                if isinstance(step, Ended):
                    return _result(step, state)
                await self._sleep_async(step)
                state.prepare_for_next_attempt()
                ATTEMPT.set(state.attempt_number)
                await plan.before(state)
                try:
                    result = await call(*state.args, **state.kwargs)
                except Exception as error:
                    state.ended(plan.clock(), error=error)
                else:
                    if not plan.shows_results:
                        attempts.end("returned", state.attempt_number)
                        return result
                    state.ended(plan.clock(), value=result)
        except BaseException as error:
            if not isinstance(error, Exception):
                attempts.end("canceled", state.attempt_number)
            raise
        finally:
            leave(ATTEMPT, token)


def _result(step: Ended, state: RetryState) -> Any:
    if step.error is None:
        return step.value
    state.outcome = None  # it holds the error, whose traceback holds the frames that hold the state
    try:
        raise step.error
    finally:
        step.error = None


class _Tuning(TypedDict):
    ratio: float
    reserve: float
    floor: float


def _tuning(settings: RetrySettings) -> _Tuning:
    return {"ratio": settings.budget or 0.0, "reserve": settings.budget_reserve, "floor": settings.budget_floor}
