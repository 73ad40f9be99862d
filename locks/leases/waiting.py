"""The long way to a lock: queue, wait for the note, look again; entered when the first try did not get it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from backstay.errors import NotAcquired, OutcomeUnknown, Unavailable

from ..backend import ALIVE, Backend, Busy, Letter
from ..claims import Claim, Resource
from ..owners import readable
from .lease import TICK, deadline, started

if TYPE_CHECKING:
    from backstay.runtime import Runtime

__all__ = ["Waiter"]

BEAT = ALIVE / 2.5  # s between two looks, at most: a lost note costs this and no more (W4)
AFTER_EXPIRY = 0.002  # s after which an ended time-to-live has surely been seen by the store
SPREAD = 0.001  # s of jitter for each other waiter, so that an expiry does not call all of them at once (W6)
LAST_LOOK = 0.01  # s; with less time left a request would more likely be cut off than answered
RETRY, RETRY_CAP = 0.02, 0.5  # s, pauses after a request that was not answered


class Waiter:
    """One acquisition that did not succeed at once.

    `run` ends with a lease's fence and start, or raises. Whoever runs it closes it afterwards and, unless it
    succeeded, withdraws the token where `entangled` says that the store may know it.
    """

    __slots__ = (
        "_backend",
        "_busy",
        "_claim",
        "_failures",
        "_resource",
        "_runtime",
        "_token",
        "_ttl",
        "_until",
        "_wait",
        "entangled",
        "in_flight",
        "letter",
        "queued_at",
        "queued_there",
        "sent",
    )

    def __init__(
        self,
        runtime: Runtime,
        backend: Backend,
        resource: Resource,
        claim: Claim,
        token: str,
        ttl: float,
        wait: float,
        sent: float,
        letter: Letter | None,
    ) -> None:
        self._runtime, self._backend = runtime, backend
        self._resource, self._claim, self._token, self._ttl, self._wait = resource, claim, token, ttl, wait
        self.sent = sent  # when the latest take left
        self._until = sent + wait
        self._failures = 0
        self._busy: Busy | None = None  # the latest answer that named a holder
        self.letter = letter
        self.entangled = False  # the store may have this token in its queue, or as an owner
        self.in_flight = False  # a take of it may still be on its way
        self.queued_at: float | None = None  # when the latest take that answered "queued" left
        self.queued_there = 0.0  # and the store's clock in that answer

    async def run(self, answer: int | Busy | Unavailable | OutcomeUnknown) -> tuple[int, float]:
        """Go on from the first answer until the lock is won or the time is up.

        Returns:
            The fence, and the start of the lease on this host's clock.

        Raises:
            NotAcquired, Unavailable, OutcomeUnknown: as the last answer says.
        """
        self._note(answer)
        while not isinstance(answer, int):
            left = self._until - self._runtime.now()
            if left <= TICK:
                raise self._refusal(answer)
            if isinstance(answer, Busy):
                won = await self._wait_for_note(answer, left)
                if won is not None:
                    return won
            else:
                self._failures += 1
                pause = min(RETRY * 2.0 ** min(self._failures, 10), RETRY_CAP)
                await self._runtime.sleep(min(self._runtime.uniform(0.0, pause), left))
            answer = await self._look(answer)
        return answer, self.sent

    async def _wait_for_note(self, busy: Busy, left: float) -> tuple[int, float] | None:
        if self.letter is None or self.queued_at is None:
            return None  # not queued yet: the mailbox has to be opened first
        chance = busy.server_time * 1e4 % 1.0  # its sub-millisecond part: as good as a random number, and free
        ends = inf if busy.left is None else busy.left + AFTER_EXPIRY + min(SPREAD * (busy.waiters - 1), 0.5) * chance
        pause = left if left <= LAST_LOOK else min(left, ends, BEAT * (1.0 - 0.2 * chance))
        note = await self.letter.wait(pause)
        if note is None or note.server_time < self.queued_there:
            # A note from before the last answer: that grant is over, since the store then named another owner.
            return None
        now = self._runtime.now()
        start = started(self.queued_at, self.queued_there, note.server_time, now)
        if deadline(start, self._ttl) <= now:
            return None  # this host slept through it; asking again starts the time anew, if it is still ours
        return note.fence, start

    async def _look(self, last: Busy | Unavailable | OutcomeUnknown) -> int | Busy | Unavailable | OutcomeUnknown:
        """Take once more, from the queue."""
        left = self._until - self._runtime.now()
        if left <= LAST_LOOK and isinstance(last, Busy):
            await self._runtime.sleep(left)
            return last
        if left <= TICK:
            return last
        try:
            if self.letter is None or not self.letter.address:  # never opened, or cut off since
                await self._backend.open(left)
                self.letter = self.letter or self._backend.letter(self._token)
            self.sent = self._runtime.now()
            left = min(self._backend.patience, max(self._until - self.sent, 0.001))
            self.entangled = self.in_flight = True
            address = self.letter.address if self.letter is not None else ""
            answer: int | Busy | Unavailable | OutcomeUnknown
            answer = await self._backend.take(self._resource, self._token, self._claim, self._ttl, address, left)
        except (Unavailable, OutcomeUnknown) as error:
            answer = error
        self._note(answer)
        return answer

    def _note(self, answer: int | Busy | Unavailable | OutcomeUnknown) -> None:
        if isinstance(answer, Busy):
            self._busy = answer
            self.in_flight = False
            self._failures = 0
            if self.letter is not None:
                self.entangled = True
                self.queued_at, self.queued_there = self.sent, answer.server_time
        elif isinstance(answer, OutcomeUnknown):
            self.entangled = self.in_flight = True

    def _refusal(self, last: Busy | Unavailable | OutcomeUnknown) -> NotAcquired | Unavailable | OutcomeUnknown:
        if isinstance(last, Busy):
            return refused(self._resource, last, self._wait)
        if self.entangled:
            return unanswered(self._resource, self._token, self._backend, last)
        if self._busy is not None:  # it was held when the store last answered, and we never queued
            return refused(self._resource, self._busy, self._wait)
        return last


def refused(resource: Resource, busy: Busy, wait: float) -> NotAcquired:
    """Return the error for what others hold."""
    holder = readable(busy.owner) if busy.owner else "others"
    soon = "" if busy.left is None else f"; retry in {busy.left:.1f} s"
    return NotAcquired(
        f"{resource} is held by {holder} and did not come free in {wait:g} s{soon}",
        retry_after=busy.left,
    )


def unanswered(resource: Resource, token: str, backend: Backend, cause: BaseException) -> OutcomeUnknown:
    """Return the error for an acquisition that may have reached the store; its token is being withdrawn."""
    error = OutcomeUnknown(
        f"{resource}: {backend.label} did not answer, so it may be taken for a while by {token}; "
        "you do not hold it, and it is given back as soon as the store answers",
        ask={"lock": resource.name, "token": token},
    )
    error.__cause__ = cause
    return error
