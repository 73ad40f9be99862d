"""The state of one breaker: who is admitted, what a result does, who is told. No lock is held over a call."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import pybreaker
from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN

from backstay.clock import Clock, monotonic
from backstay.telemetry import level

from ..circuit_breaker.states import Cause, State
from ..circuit_breaker.telemetry import Calls, count_transition
from ..forks import renew_in_child
from ..policy import seconds
from .errors import CircuitBreakerError
from .trial import Trial, shared_trial_of

__all__ = ["Judgement", "Ticket"]

logger = logging.getLogger("backstay.resilience")

_STATES = {STATE_CLOSED: State.CLOSED, STATE_OPEN: State.OPEN, STATE_HALF_OPEN: State.HALF_OPEN}
_BY_HAND = {STATE_CLOSED: Cause.MANUAL_CLOSE, STATE_OPEN: Cause.MANUAL_OPEN, STATE_HALF_OPEN: Cause.MANUAL_HALF_OPEN}


class Ticket:
    """An admitted call: the state object in which it began, and its permit if it is a trial call.

    A transition replaces the state object, so that a result which comes after it counts nowhere (CB-6).
    """

    __slots__ = ("permit", "state")

    def __init__(self, state: Any, permit: object = None) -> None:
        self.state = state
        self.permit = permit


class Judgement(pybreaker.CircuitBreaker):
    """What pybreaker's breaker knows, with calls admitted and settled instead of run under its lock.

    `_lock` guards transitions, counting and, where there are listeners, them: pybreaker promises that they never run
    side by side, and code relies on it (the exception of CB-8). It is reentrant, since listeners call the breaker.
    """

    def __init__(
        self,
        fail_max: int = 5,
        reset_timeout: float = 60,
        success_threshold: int = 1,
        exclude: Iterable[Any] | None = None,
        listeners: Sequence[Any] | None = None,
        state_storage: pybreaker.CircuitBreakerStorage | None = None,
        name: str | None = None,
        throw_new_error_on_trip: bool = True,
        *,
        probe_lease: float = 60.0,
        clock: Clock = monotonic,
    ) -> None:
        self._clock = clock
        self._lease = seconds(probe_lease, "probe_lease")
        self._calls = Calls(name or "pybreaker")
        self._cause: Cause | None = None
        self._opened: tuple[Any, float] | None = None
        self._listeners: list[Any] = []
        super().__init__(
            fail_max, reset_timeout, success_threshold, exclude, listeners, state_storage, name, throw_new_error_on_trip
        )
        storage: Any = self._state_storage
        self._memory: Any = storage if type(storage) is pybreaker.CircuitMemoryStorage else None
        self._shared = shared_trial_of(storage, self._lease)
        self._trial = self._new_trial()
        renew_in_child(self)
        self._export(name or "pybreaker")

    # -- calls

    def admit(self) -> Ticket:
        """Admit a call.

        Raises:
            CircuitBreakerError: the breaker is open, or a trial call is under way.
        """
        state: Any = self.state
        if state.name == STATE_OPEN:
            self._refuse_until_timeout()
            with self._lock:
                if self._state is state:
                    self._cause = Cause.WAIT_OVER
                    self.half_open()
                state = self._state
        if state.name != STATE_HALF_OPEN:
            if state.name == STATE_OPEN:  # opened again meanwhile
                self._refuse_until_timeout()
            return Ticket(state)
        with self._lock:
            permit = self._trial.take() if self._state is state else None
        if permit is None:
            raise self._refusal("a trial call is under way, circuit breaker still half-open", None)
        return Ticket(state, permit)

    def refuse_if_open(self) -> None:
        """Raise what a call would raise now, and take nothing."""
        if self.state.name == STATE_OPEN:
            self._refuse_until_timeout()

    def succeeded(self, ticket: Ticket) -> None:
        """Note a good call."""
        self._calls.success.n += 1
        self._note_success(ticket)

    def failed(self, ticket: Ticket, error: BaseException) -> BaseException:
        """Note what a call raised, and return what its caller is to see."""
        if not isinstance(error, Exception):
            self.give_back(ticket)
            return error
        if not self._is_failure(error):
            self._calls.ignored.n += 1
            self._note_success(ticket)  # as pybreaker does: the system has answered
            return error
        self._calls.failure.n += 1
        with self._lock:
            counts = self._counts(ticket)
            if counts:
                self._inc_counter()
            self.tell("failure", error)
            if not counts or self._state is not ticket.state:
                return error
            if ticket.state.name == STATE_HALF_OPEN:
                return self._trip(Cause.PROBES_FAILED, "Trial call failed, circuit breaker opened", error)
            if self._state_storage.counter >= self._fail_max:
                return self._trip(Cause.CONSECUTIVE, "Failures threshold reached, circuit breaker opened", error)
        return error

    def give_back(self, ticket: Ticket) -> None:
        """Note a call that says nothing: cancelled, interrupted, or a stream that was left (AS-3)."""
        self._calls.neutral.n += 1
        if ticket.permit is not None:
            self._trial.give_back(ticket.permit)

    def _note_success(self, ticket: Ticket) -> None:
        if ticket.state.name == STATE_CLOSED and not self._listeners:
            if self._state is ticket.state and (self._memory is None or self._memory.counter):
                self._state_storage.reset_counter()
            return
        with self._lock:
            if self._counts(ticket):
                self._state_storage.reset_counter()
                if ticket.state.name == STATE_HALF_OPEN:
                    self._state_storage.increment_success_counter()
                    if self._state_storage.success_counter >= self._success_threshold:
                        self._cause = Cause.PROBES_PASSED
                        self.close()
            self.tell("success")

    def _counts(self, ticket: Ticket) -> bool:
        """Whether a result still says something: its state holds, and its permit has not run out. Under the lock."""
        valid = ticket.permit is None or self._trial.give_back(ticket.permit)
        return valid and self._state is ticket.state

    def _is_failure(self, error: Exception) -> bool:
        try:
            return self.is_system_error(error)
        except Exception:  # the caller is to see the error of the call, not that of a predicate
            logger.exception("an exclusion of circuit breaker %r could not judge %s", self.name, type(error).__name__)
            return True

    def _trip(self, cause: Cause, text: str, error: Exception) -> BaseException:
        self._cause = cause
        if not self.open():
            return error
        refusal = self._refusal(text, self._reset_timeout, count=False)
        refusal.__cause__ = error
        return refusal.with_traceback(error.__traceback__)

    # -- time

    def _refuse_until_timeout(self) -> None:
        remaining = self._remaining()
        if remaining > 0:
            raise self._refusal("Timeout not elapsed yet, circuit breaker still open", remaining)

    def _remaining(self) -> float:
        """Return the seconds until a trial call.

        Counted by this process's own clock: from the opening, or, if another one has opened it, from when this one
        first saw that. The stamps of pybreaker's storages are of wall clocks that may disagree; here they only tell
        one opening from another.
        """
        opened_at, opened = self._state_storage.opened_at, self._opened
        if opened_at is None:
            return 0.0
        if opened is None or opened[0] != opened_at:
            self._opened = opened = (opened_at, self._clock())
        return opened[1] + self._reset_timeout - self._clock()

    def _refusal(self, text: str, retry_after: float | None, *, count: bool = True) -> CircuitBreakerError:
        if count:
            self._calls.not_permitted.n += 1
        return CircuitBreakerError(text, retry_after=retry_after)

    # -- transitions

    def open(self) -> bool:
        """Open the circuit; return whether the call that did so is to raise `CircuitBreakerError`."""
        with self._lock:
            anew = super().open()
            self._opened = (self._state_storage.opened_at, self._clock())
            return anew

    def _create_new_state(self, new_state: str, prev_state: Any = None, notify: bool = False) -> Any:
        from backstay.resilience import pybreaker as ours  # where applications and tests replace them

        kinds = {
            STATE_CLOSED: ours.CircuitClosedState,
            STATE_OPEN: ours.CircuitOpenState,
            STATE_HALF_OPEN: ours.CircuitHalfOpenState,
        }
        kind: Any = kinds.get(new_state)
        if kind is None:
            raise ValueError(f"Unknown state {new_state!r}, valid states: {', '.join(kinds)}")
        if new_state == STATE_HALF_OPEN and notify:
            self._trial = self._new_trial()
        return kind(self, prev_state=prev_state, notify=notify)

    def began(self, before: Any, after: Any) -> None:
        """Tell listeners and telemetry that a state has begun. Called under the lock."""
        cause, self._cause = self._cause or _BY_HAND[after.name], None
        if before is not None and before.name != after.name:
            count_transition(self._name or "pybreaker", _STATES[before.name], _STATES[after.name], cause)
        self.tell("state_change", before, after)

    def tell(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Tell every listener; one that raises changes nothing (CB-8). Called under the lock."""
        for listener in tuple(self._listeners):
            try:
                getattr(listener, event)(self, *args, **kwargs)
            except Exception:
                logger.exception("listener %r of circuit breaker %r failed in %s", listener, self.name, event)

    def renew(self) -> None:
        """Begin anew in a forked child: no thread of the parent gives its lock or its permit back here."""
        self._lock = threading.RLock()
        self._trial.forget()

    def _new_trial(self) -> Trial:
        return Trial(self._lease, self._clock, self._shared)

    def _export(self, name: str) -> None:
        me = weakref.ref(self)
        for known, state in _STATES.items():

            def reads(known: str = known) -> float:
                breaker = me()
                return math.nan if breaker is None else float(breaker._state.name == known)

            level(
                "circuit_breaker.state", "1", reads,
                resource=name, policy_name=name, policy_type="circuit_breaker", state=state.value,
            )  # fmt: skip
