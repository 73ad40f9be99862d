"""What follows an attempt: a pause, a result or an error. In tenacity's order: retry, wait, stop, before_sleep.

Written once: in blocking code nothing in it suspends and `drive` runs it, in async code hooks may be awaited.
"""

from __future__ import annotations

import inspect
from typing import Any

from backstay.clock import Clock

from ..timeout.deadline import DUE
from .budget import RetryBudget
from .errors import ResultRefused
from .repeatable import asks_again, may_repeat, wants_results
from .retry_after import retry_after_of
from .settings import Hook, RetrySettings
from .state import Pause, RetryState
from .telemetry import Attempts, Reason
from .waits import FullJitter

__all__ = ["Ended", "Plan"]

_DEFAULT_ATTEMPTS = 3


class Ended:
    """The call has a result, or an error to raise: it is raised by the caller, or its frames would keep each other."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


class Plan:
    """Settings, made ready: calls keep the plan they began with, so none sees a mixture.

    Attributes:
        special: more than the error of a failed call is needed: its beginning, its results, or a hook before it.
    """

    __slots__ = ("_attempts", "_wait", "clock", "name", "settings", "shows_results", "special")

    def __init__(self, name: str, settings: RetrySettings, clock: Clock, jitter: type[FullJitter] = FullJitter) -> None:
        self.name = name
        self.settings = settings
        self.clock = clock
        self.shows_results = wants_results(settings.retry)
        self.special = settings.deadline is not None or bool(settings.objects)
        self._wait: Hook = settings.wait or jitter(settings.first_wait, settings.longest_wait)
        self._attempts = settings.attempts or (None if settings.stop is not None else _DEFAULT_ATTEMPTS)

    async def decide(self, state: RetryState, attempts: Attempts, budget: RetryBudget, calls: int) -> float | Ended:
        """Return the seconds to wait before the next attempt, or how the call ends."""
        settings, outcome = self.settings, state.outcome
        assert outcome is not None
        error = outcome.exception()
        again = error is not None and asks_again(error)
        if not again and not await self._wanted(state, error):
            return self._last(state, attempts, error)
        if settings.after is not None:
            await _answer(settings.after(state))
        state.upcoming_sleep = await _answer(self._wait(state))
        asked = retry_after_of(error) if settings.obey_retry_after else None
        if asked is not None:
            state.upcoming_sleep += asked
        reason = await self._stopped(state, asked, budget, calls)
        if reason is not None:
            return await self._give_up(state, attempts, reason, error)
        state.next_action = Pause(state.upcoming_sleep)
        state.idle_for += state.upcoming_sleep
        if settings.before_sleep is not None:
            await _answer(settings.before_sleep(state))
        return float(state.upcoming_sleep)

    async def before(self, state: RetryState) -> None:
        """Call the hook before an attempt, where there is one."""
        if self.settings.before is not None:
            await _answer(self.settings.before(state))

    async def _wanted(self, state: RetryState, error: BaseException | None) -> bool:
        settings = self.settings
        if error is not None and not may_repeat(error, settings):
            return False
        if settings.retry is not None:
            return bool(await _answer(settings.retry(state)))
        return isinstance(error, settings.on)

    async def _stopped(
        self, state: RetryState, asked: float | None, budget: RetryBudget, calls: int
    ) -> Reason | None:  # fmt: skip
        stop = self.settings.stop
        if stop is not None and await _answer(stop(state)):
            return "max_attempts"
        if self._attempts is not None and state.attempt_number >= self._attempts:
            return "max_attempts"
        now, due = self.clock(), DUE.get()
        if due is not None and now + state.upcoming_sleep >= due:  # it would wake up too late to do anything
            return "deadline"
        if asked is not None and asked > self.settings.longest_retry_after:
            return "deadline"
        if self.settings.budget is not None and not budget.take(now, calls):
            return "budget"
        return None

    def _last(self, state: RetryState, attempts: Attempts, error: BaseException | None) -> Ended:
        """End a call whose last attempt is not to be followed by another, whatever is left."""
        assert state.outcome is not None
        number = state.attempt_number
        if error is None:
            attempts.end("returned", number)
            return Ended(state.outcome.result())
        attempts.end("not_retryable", number)
        if number > 1:
            self._note(error, number, "not_retryable")
        return Ended(None, error)

    async def _give_up(
        self, state: RetryState, attempts: Attempts, reason: Reason, error: BaseException | None
    ) -> Ended:
        assert state.outcome is not None
        number = state.attempt_number
        attempts.end(reason, number)
        if self.settings.retry_error_callback is not None:
            return Ended(await _answer(self.settings.retry_error_callback(state)))
        if error is None:
            told = f"{self.name!r} gave no result that was wanted in {number} attempts ({reason})"
            return Ended(None, ResultRefused(told, result=state.outcome.result()))
        if asks_again(error):
            error = error.__cause__ or error.__context__ or error
        self._note(error, number, reason)
        return Ended(None, error)

    def _note(self, error: BaseException, number: int, reason: Reason) -> None:
        mark = f"backstay: {self.name!r} was given up after "
        kept = [note for note in getattr(error, "__notes__", ()) if not note.startswith(mark)]
        if len(kept) != len(getattr(error, "__notes__", ())):  # one object that is raised again and again
            error.__notes__ = kept
        error.add_note(f"{mark}{number} attempt{'s' if number > 1 else ''} ({reason})")


async def _answer(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given
