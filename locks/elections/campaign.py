"""Being elected, leading and resigning, written once for threads, asyncio and the simulator.

Theory of operation. The seat is the lease of a mutex, so at most one leadership is valid at a time and its fence is
the term. A candidate queues for the lease; elected, it tells so in the election's document and runs its body. From
then on one rule holds: the lease is given back, and the candidate stands again, only when the body has really ended
(X1). A leader that loses its lease tells the body at once, by the same local clock that ends the lease before the
store can grant it again; one that is asked to stop keeps its lease, renewed, while the body ends. Then it tells why,
and gives the lease back, so that a successor does not wait for a ttl (X2).

News are told on the way, never waited for: the lease alone decides who leads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.runtime import Runtime

from ..claims import MUTEX, Resource
from ..errors import LockLost
from ..leases.lease import DRIFT, HELD, Grant
from ..leases.protocol import PARTING, LeaseProtocol
from ..options import Duration, seconds
from ..register import Register, Seen
from ..states.news import NewsForm, NewsState, ended, started
from .leadership import AsyncLeadership, AsyncOver, Leadership, Over

__all__ = ["JITTER", "Beside", "Campaign", "Candidacy", "Ending", "Terms", "candidacy", "seat"]

T = TypeVar("T")
G = TypeVar("G", Leadership, AsyncLeadership)

logger = logging.getLogger("backstay.locks")

JITTER = 1.2  # pauses vary by a fifth
SLICE = 1.0  # s of one stay in the queue: so often a candidate looks whether it was told to stop
FORM = NewsForm()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a candidate stands (X3, X7, X8).

    Args:
        ttl: seconds that the seat outlives its leader's last renewal.
        retry: seconds between two attempts while the store does not answer or the seat is left to others.
        lock_delay: seconds that a new leader waits before it begins, where the one before did not tell of its end.
        hold_back: seconds that the seat must have been empty before this candidate takes it.
        hold_down: seconds at most that a candidate whose terms end badly, again and again, stays away.
    """

    ttl: float
    retry: float
    lock_delay: float
    hold_back: float
    hold_down: float

    def __post_init__(self) -> None:
        if not 0.0 < self.ttl <= 86400.0:
            raise Misuse(f"ttl must be > 0 s and at most a day, got {self.ttl:g}; 15 is a good start")
        if not 0.0 < self.retry * JITTER < self.ttl * (1.0 - DRIFT):
            raise Misuse(
                f"retry must be > 0 s and, with its jitter of a fifth, less than the ttl of {self.ttl:g} s after which "
                f"a leader gives up, got {self.retry:g}; a tenth of the ttl is a good start"
            )
        for name in ("lock_delay", "hold_back", "hold_down"):
            if not 0.0 <= getattr(self, name) <= 86400.0:
                raise Misuse(f"{name} must be from 0 s to a day, got {getattr(self, name):g}")


def candidacy(
    ttl: Duration, retry: Duration | None, lock_delay: Duration, hold_back: Duration, hold_down: Duration
) -> Terms:
    """Return checked terms; the default of `retry` is a tenth of the ttl, at most 2 s."""
    lease = seconds(ttl, "ttl")
    return Terms(
        ttl=lease,
        retry=min(2.0, lease / 10.0) if retry is None else seconds(retry, "retry"),
        lock_delay=seconds(lock_delay, "lock_delay"),
        hold_back=seconds(hold_back, "hold_back"),
        hold_down=seconds(hold_down, "hold_down"),
    )


def seat(name: str) -> Resource:
    """Return the mutex whose holder leads; it is a lock like any other, also to operators."""
    return Resource(f"election:{name}")


class Ending(Generic[T]):
    """How a body ended."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self.value, self.error = value, error


Beside = Callable[[Runtime, Over | AsyncOver, Callable[[], Coroutine[Any, Any, T]]], Coroutine[Any, Any, Ending[T]]]
"""Runs a body to its end, and has it stop when the leadership is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy(Generic[G]):
    """What makes a candidate of one colour."""

    over: Callable[[Runtime, Grant], Any]
    leadership: Callable[[Runtime, Grant, str, str, Any], G]
    run: Beside[Any]


class Campaign(Generic[G]):
    """One candidate, from its first attempt until its work is done or it is asked to stop.

    Args:
        protocol: keeps the lease.
        name: of the election.
        candidate: what the news call this candidate.
        terms: how it stands.
        colour: how a body is run.
    """

    __slots__ = ("__weakref__", "_badly", "_candidate", "_colour", "_done", "_grant", "_name", "_over", "_protocol",
                 "_register", "_runtime", "_stop", "_terms")  # fmt: skip

    def __init__(self, protocol: LeaseProtocol, name: str, candidate: str, terms: Terms, colour: Candidacy[G]) -> None:
        self._protocol, self._runtime = protocol, protocol.runtime
        self._name, self._candidate, self._terms = name, candidate, terms
        self._colour: Candidacy[G] = colour
        self._register = news(protocol, name)
        self._stop, self._done = protocol.runtime.signal(), protocol.runtime.signal()
        self._over: Over | AsyncOver | None = None
        self._grant: Grant | None = None
        self._badly = 0  # terms in a row that ended badly and soon

    @property
    def leads(self) -> bool:
        """Whether a body of this campaign may still run."""
        return self._grant is not None

    def stop(self) -> None:
        """Ask the candidate to resign and stand no more; returns at once."""
        self._stop.set()
        if (over := self._over) is not None:
            over.ask()

    async def end(self, timeout: float) -> bool:
        """Wait until the body has ended and the seat is given back, at most `timeout` seconds; return whether it is."""
        return await self._done.wait(timeout)

    def forsake(self) -> None:
        """Renew the seat no more, and do not give it back either: a body that does not end still runs (X1)."""
        if (grant := self._grant) is not None:
            self._protocol.abandon(grant)

    async def run(self, body: Callable[[G], Coroutine[Any, Any, T]]) -> T | None:
        """Stand until the body has returned in a term that was not lost, and return what it returned.

        Returns:
            None where the candidate was asked to stop.

        Raises:
            Misuse: the locks were closed.
            whatever the body raises.
        """
        try:
            while not self._stop.is_set():
                grant = await self._win()
                if grant is None:
                    break
                self._grant = grant
                try:
                    ending = await self._lead(grant, body)
                finally:
                    self._grant = self._over = None
                if ending is not None:
                    if ending.error is not None:
                        raise ending.error
                    return ending.value
                await self._stay_away()
            return None
        finally:
            self._done.set()

    async def _win(self) -> Grant | None:
        """Return the lease of the seat; None where the candidate was asked to stop."""
        terms, protocol = self._terms, self._protocol
        while not self._stop.is_set():
            try:
                if terms.hold_back and not await self._left_empty():
                    continue
                wait = 0.0 if terms.hold_back else SLICE * self._runtime.uniform(0.8, JITTER)
                return await protocol.acquire(seat(self._name), MUTEX, terms.ttl, wait, True)
            except NotAcquired:
                continue
            except (Unavailable, OutcomeUnknown) as error:
                logger.info("election %r: %s", self._name, error)
                await self._stop.wait(self._runtime.uniform(0.8, JITTER) * terms.retry)
        return None

    async def _left_empty(self) -> bool:
        """Leave the seat to the others for a while; return whether nobody took it."""
        if await self._taken() or await self._stop.wait(self._terms.hold_back):
            return False
        return not await self._taken()

    async def _taken(self) -> bool:
        """Return whether somebody leads or is about to, after a pause if so."""
        survey = await self._protocol.backend.inspect(seat(self._name), self._protocol.backend.patience)
        if not survey.holders and not survey.waiters:
            return False
        await self._stop.wait(self._terms.retry * self._runtime.uniform(0.8, JITTER))
        return True

    async def _lead(self, grant: Grant, body: Callable[[G], Coroutine[Any, Any, T]]) -> Ending[T] | None:
        """Lead one term to its end; None where it was lost and the candidate stands again."""
        runtime, began = self._runtime, self._runtime.now()
        over = self._over = self._colour.over(runtime, grant)
        leadership = self._colour.leadership(runtime, grant, self._name, self._candidate, over)
        if self._stop.is_set():
            over.ask()
        ending: Ending[T] = Ending()
        begun = False
        try:
            if self._terms.lock_delay:
                await self._wait_for_the_last_one(grant, over)
            if not over.is_set():
                begun = True
                await self._tell(lambda state: started(state, grant.fence, self._candidate), grant)
                ending = await self._colour.run(runtime, over, lambda: body(leadership))
        except GeneratorExit:
            raise
        except BaseException:
            await runtime.shield(self._resign(grant, _reason(grant, runtime.now()) if begun else ""))
            raise
        lost = not grant.valid(runtime.now())
        failed = ending.error is not None and not (over.is_set() and isinstance(ending.error, LockLost))
        reason = "body failed" if failed and not lost else _reason(grant, runtime.now())
        await runtime.shield(self._resign(grant, reason if begun else ""))
        if lost and not failed and not over.asked:
            self._badly = 0 if runtime.now() - began > 3 * self._terms.ttl else self._badly + 1
            return None
        return ending if failed or not over.asked else Ending(ending.value)

    async def _resign(self, grant: Grant, reason: str) -> None:
        """Tell how the term ended, if it had begun, and give the seat back; the body has ended."""
        if reason:
            await self._tell(lambda state: ended(state, grant.fence, self._candidate, reason), grant)
        await self._protocol.leave(grant)

    async def _wait_for_the_last_one(self, grant: Grant, over: Over | AsyncOver) -> None:
        """Give the leader before, where it did not tell of its end, the time to end (X7)."""

        async def ended_or_over(seen: Seen[NewsState] | None) -> bool | None:
            return seen is None or seen.state.last.event == "ended" or seen.state.last.term >= grant.fence or (
                over.is_set() or None
            )  # fmt: skip

        try:
            await self._register.follow(ended_or_over, self._runtime.now() + self._terms.lock_delay, self._terms.retry)
        except (Unavailable, OutcomeUnknown):
            return  # the delay is over, and that is what matters

    async def _tell(self, step: Callable[[NewsState | None], Any], grant: Grant) -> None:
        """Write the news; where the store does not answer now, beside the work, for as long as it is news."""
        try:
            await self._write(step, PARTING)
        except (Unavailable, OutcomeUnknown) as error:
            logger.info("news of election %r are told later: %s", self._name, error)
            try:
                self._runtime.spawn(lambda: self._insist(step, grant.ttl), name="backstay-locks-news")
            except RuntimeError as refused:  # an ending interpreter starts no thread
                logger.warning("news of election %r are not told: %s", self._name, refused)

    async def _insist(self, step: Callable[[NewsState | None], Any], seconds: float) -> None:
        try:
            await self._write(step, max(seconds, 10.0))
        except (Unavailable, OutcomeUnknown) as error:
            logger.warning("news of election %r were not told: %s", self._name, error)

    async def _write(self, step: Callable[[NewsState | None], Any], seconds: float) -> None:
        await self._register.change(lambda state, _: step(state), self._runtime.now() + seconds, again=True)

    async def _stay_away(self) -> None:
        """Hold a candidate down whose terms end badly and soon, so that it does not depose others again and again."""
        pause = min(self._terms.hold_down, self._terms.retry * 2.0 ** min(self._badly - 1, 16)) if self._badly else 0.0
        if pause:
            await self._stop.wait(pause * self._runtime.uniform(0.8, 1.0))


def news(protocol: LeaseProtocol, name: str) -> Register[NewsState]:
    """Return the register of an election's news; it is kept for ever, one small document an election."""
    if protocol.closed:
        raise Misuse(f"election {name!r}: these locks were closed; connect again")
    return Register(protocol.runtime, protocol.backend, Resource(name, "election"), FORM, None)


def _reason(grant: Grant, now: float) -> str:
    if grant.state is HELD and now < grant.deadline and not grant.doubted:
        return "resigned"
    if grant.reason in ("session", "doubted") or grant.doubted or grant.failures:
        return "partitioned"
    return {"taken": "superseded", "closed": "resigned"}.get(grant.reason, "lease expired")
