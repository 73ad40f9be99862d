"""The state of a breaker, and everything that is not on the way of a successful call.

Calls end in `guard.py`; what they cannot decide there by a look and an addition comes here. The lock is held
for a few lines of ours, never while code of the service runs: not the call, not a predicate, not a listener.
It is reentrant because a collector may finalise an abandoned stream, and so settle it, between any two lines.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

from backstay.clock import Clock

from ..forks import renew_in_child
from .errors import CircuitOpen
from .events import Listener, Post, Transition
from .outcomes import Judge, Outcome
from .retry_after import retry_after_of
from .settings import BreakerSettings
from .snapshot import Snapshot
from .states import TABLE, Cause, State
from .stays import Aside, Probing, Refusing
from .telemetry import Calls, count_transition
from .windows import Calls as LastCalls, Episode, Totals, window_of

__all__ = ["Circuit", "Ticket"]

logger = logging.getLogger("backstay.resilience")


class Ticket:
    """An admitted call: the episode in which it began, since when, and its permit if it is a probe."""

    __slots__ = ("began", "episode", "permit")

    def __init__(self, episode: Episode, permit: object, began: float) -> None:
        self.episode = episode
        self.permit = permit
        self.began = began


class Circuit:
    """One breaker's state machine; see `CircuitBreaker` for the arguments."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        judge: Judge,
        listeners: Iterable[Listener],
        clock: Clock,
        uniform: Callable[[float, float], float],
    ) -> None:
        now = clock()
        self.name = name
        self.settings = settings
        self.judge = judge
        self.clock = clock
        self.calls = Calls(name)
        self.post = Post(name, listeners)
        self.episode: Episode = window_of(settings, State.CLOSED, now)
        self.openings = 0
        self.opened_by: Cause | None = None
        """What opened it last, until it closes."""
        self.allowance: int | None = None
        """Probes that the other instances leave to this one; None while nobody is asked."""
        self._uniform = uniform
        self._number = 0
        self._lock = threading.RLock()
        self._spent: tuple[State, float, dict[State, float]] = (State.CLOSED, now, {})
        renew_in_child(self)

    # -- calls

    def admit(self) -> Ticket:
        """Admit a call that the quick way does not serve.

        Raises:
            CircuitOpen: it is refused.
        """
        now = self.clock()
        episode = self.episode
        permit: object = None
        if isinstance(episode, Refusing | Probing):
            with self._lock:
                episode = self.episode
                if isinstance(episode, Refusing) and episode.until <= now and self.allowance != 0:
                    self._move(Cause.WAIT_OVER, now)
                    episode = self.episode
                if isinstance(episode, Probing):
                    permit = episode.take(now)
            self.post.deliver()
            if permit is None and isinstance(episode, Refusing | Probing):
                self.calls.not_permitted.n += 1
                raise self.refusal(episode, now)
        return Ticket(episode, permit, now)

    def refusal(self, episode: Episode, now: float) -> CircuitOpen:
        """Return the error for a call that is not let through."""
        wait = episode.until - now if isinstance(episode, Refusing) else math.inf
        # Past its time it is refused because other instances have the probes: soon, but nobody knows when.
        return CircuitOpen(self.name, episode.state.value, max(wait, 0.0) if wait < math.inf else None)

    def settle(self, ticket: Ticket, error: BaseException | None) -> None:
        """Note how an admitted call ended."""
        if error is None:
            now = self.clock()
            self.end(ticket.episode, False, now, now - ticket.began, ticket.permit)
        else:
            self.raised(ticket.episode, error, ticket.began, ticket.permit)

    def raised(self, episode: Episode, error: BaseException, began: float = math.inf, permit: object = None) -> None:
        """Note that a call raised."""
        now = self.clock()  # before the predicates, which are not the dependency's time
        outcome = self.judge(error)
        if outcome is Outcome.FAILURE:
            self.end(episode, True, now, now - began, permit, error)
        elif outcome is Outcome.SUCCESS:
            self.end(episode, False, now, now - began, permit)
        else:
            episode.give_back(permit)
            if outcome is Outcome.IGNORED:
                self.calls.ignored.n += 1
            else:
                self.calls.neutral.n += 1

    def usual_path(self) -> int:
        """Return the path of a closed breaker under the settings that hold now."""
        return window_of(self.settings, State.CLOSED, self.clock()).path

    def returned(self, ticket: Ticket, result: Any, is_failure: Callable[[Any], bool]) -> None:
        """Note what a call returned."""
        now = self.clock()
        try:
            failed = bool(is_failure(result))
        except Exception:  # the caller is to have the result, not the error of a predicate
            logger.exception("%r could not judge a result of circuit breaker %r", is_failure, self.name)
            failed = False
        except BaseException:
            ticket.episode.give_back(ticket.permit)
            self.calls.neutral.n += 1
            raise
        self.end(ticket.episode, failed, now, now - ticket.began, ticket.permit)

    def end(
        self,
        episode: Episode,
        failed: bool,
        now: float,
        took: float,
        permit: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Note a result that says something."""
        slow = took >= self.settings.slow_from
        calls = self.calls
        if failed:
            count = calls.slow_failure if slow else calls.failure
        else:
            count = calls.slow_success if slow else calls.success
        count.n += 1
        wanted = retry_after_of(error) if error is not None and self.settings.retry_after else 0.0
        with self._lock:
            if self.episode is episode:  # else it began before a transition, and tells nothing about the time since
                cause = episode.record(failed, slow, now, permit)
                if cause is not None:
                    self._move(cause, now, wanted)
        self.post.deliver()

    def look(self, episode: Episode, now: float) -> None:
        """Judge a window of calls that a success was added to while the calls were too few."""
        with self._lock:
            if self.episode is episode and isinstance(episode, LastCalls) and (cause := episode.look(now)) is not None:
                self._move(cause, now)
        self.post.deliver()

    # -- from outside

    def move(self, cause: Cause) -> None:
        """Do what an operator, or the other instances, want; what the table does not know is left undone."""
        now = self.clock()
        with self._lock:
            self._move(cause, now)
        self.post.deliver()

    def reconfigure(self, settings: BreakerSettings) -> None:
        """Go on under other settings, in the same state."""
        now = self.clock()
        with self._lock:
            self.settings = settings
            self.episode = self.episode.adapt(settings, now)
            if isinstance(self.episode, Probing) and (cause := self.episode.judged()) is not None:
                self._move(cause, now)  # fewer probes are asked for than are done
        self.post.deliver()

    def allow(self, probes: int | None) -> int:
        """Set how many probes the other instances leave to this one; return what was left of the last allowance."""
        with self._lock:
            unused, self.allowance = self.allowance or 0, probes
            return unused

    def wait(self) -> float | None:
        """Return the seconds until probes may begin, None where it is not open; takes no lock."""
        episode = self.episode
        if isinstance(episode, Refusing) and episode.state is State.OPEN:
            return max(episode.until - self.clock(), 0.0)
        return None

    def snapshot(self) -> Snapshot:
        """Return the state and the numbers behind it, of one moment."""
        now = self.clock()
        with self._lock:
            episode, totals = self.episode, self.episode.totals(now)
            until = episode.until if isinstance(episode, Refusing) else math.inf
            return Snapshot(
                state=episode.state,
                calls=totals.calls,
                failures=totals.failures,
                slow=totals.slow,
                openings=self.openings,
                retry_after=max(until - now, 0.0) if until < math.inf else None,
                probes_in_flight=len(episode.leases) if isinstance(episode, Probing) else 0,
                settings=self.settings,
            )

    def is_in(self, state: State) -> Callable[[], float]:
        """Return what says whether this is the state now; takes no lock, since exporters call it (OT-8)."""
        return lambda: float(self.episode.state is state)

    def spent(self, state: State) -> Callable[[], float]:
        """Return what says how many seconds have been spent in a state."""

        def read() -> float:
            current, since, before = self._spent
            return before.get(state, 0.0) + (max(0.0, self.clock() - since) if current is state else 0.0)

        return read

    def renew(self) -> None:
        """Begin anew in a forked child: the parent's calls do not end here, and its time is not exported again."""
        self._lock = threading.RLock()
        self._spent = (self.episode.state, self.clock(), {})
        self.post.renew()
        if isinstance(self.episode, Probing):
            self.episode.leases.clear()

    # -- under the lock

    def _move(self, cause: Cause, now: float, wanted: float = 0.0) -> None:
        before = self.episode
        after = TABLE[before.state].get(cause)
        if after is None:
            return
        totals = before.totals(now)
        self.episode = self._enter(before, after, cause, now, wanted)
        if after is before.state:
            return
        current, since, spent = self._spent
        self._spent = (after, now, {**spent, current: spent.get(current, 0.0) + max(0.0, now - since)})
        self._number += 1
        count_transition(self.name, before.state, after, cause)
        self.post.add(self._event(before.state, after, cause, totals))

    def _enter(self, before: Episode, after: State, cause: Cause, now: float, wanted: float) -> Episode:
        settings = self.settings
        if after is State.OPEN:
            self.opened_by = cause
            if before.state is not State.OPEN:
                self.openings = self.openings + 1 if before.state is State.HALF_OPEN else 1
            longest = settings.longest
            wait = min(max(settings.wait(self.openings), wanted), longest)
            return Refusing(after, now + wait * (1 + self._uniform(0.0, settings.open_jitter)))
        if after is State.HALF_OPEN:
            allowed, self.allowance = self.allowance, None if self.allowance is None else 0
            return Probing(settings, min(settings.probes, allowed or settings.probes))
        self.openings, self.opened_by = 0, None
        if after is State.FORCED_OPEN:
            return Refusing(after, math.inf)
        return Aside() if after is State.DISABLED else window_of(settings, after, now)

    def _event(self, before: State, after: State, cause: Cause, totals: Totals) -> Transition:
        return Transition(
            breaker=self.name,
            number=self._number,
            before=before,
            after=after,
            cause=cause,
            calls=totals.calls,
            failures=totals.failures,
            slow=totals.slow,
        )
