"""Acquiring, keeping and giving back, written once for threads, asyncio and the simulator; all recipes run it.

Theory of operation. A store keeps, for each resource, its holders with a time-to-live each, a fence that only
rises, and a queue of waiters. One exchange takes what is free and draws a fence (F1). What is held is queued for: the
waiter first opens its mailbox and waits until the store has confirmed it, then joins the queue with the
mailbox's address, so that no hand-over can fall between the two (W1). Giving back hands it to the first
live waiter in the same step and sends it a note with the fence; a note for nobody is ignored. Waiters look
again when the holder's lease must have ended, and at least every two fifths of the time for which they count
as alive: a lost note costs time, never exclusion (W2, W4).

Every request carries a token that is used for one acquisition, so any of them may be sent again. When an
acquisition ends in any other way than with a lease, its token is withdrawn, and a tombstone refuses a take
that is still on its way (C9). If the store does not answer even then, the keeper goes on asking until the
time-to-live is over.
"""

from __future__ import annotations

import logging
from math import inf

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.runtime import Runtime
from backstay.telemetry import span

from ..backend import Backend, Busy, Freed, Kept, Renewal
from ..claims import Claim, Resource
from ..errors import LockLost
from ..owners import Owners
from ..telemetry import Meters
from .keeper import Keeper, tell
from .lease import HELD, LOST, RELEASED, Grant, State, deadline
from .waiting import Waiter

__all__ = ["LeaseProtocol"]

logger = logging.getLogger("backstay.locks")

PARTING = 1.0  # s for a withdrawal that the caller waits for; the keeper goes on from there


class LeaseProtocol:
    """The steps of acquire, release and extend over one backend.

    Args:
        runtime: the make that the backend is of.
        backend: where the locks are.
        keeper: who renews, announces losses and insists on withdrawals.
        owners: makes tokens.
        meters: what is counted.
    """

    __slots__ = ("_keeper", "_owners", "backend", "closed", "meters", "runtime")

    def __init__(self, runtime: Runtime, backend: Backend, keeper: Keeper, owners: Owners, meters: Meters) -> None:
        self.runtime = runtime
        self.backend = backend
        self._keeper = keeper
        self._owners = owners
        self.meters = meters
        self.closed = False
        backend.attend(self)

    async def acquire(
        self, resource: Resource, claim: Claim, ttl: float, wait: float, renew: bool, max_hold: float = inf
    ) -> Grant:
        """Acquire what is claimed of a resource for `ttl` seconds at a time, within `wait` seconds.

        With `max_hold` the lease is lost that many seconds after its start, whatever the store says (N7).

        Raises:
            NotAcquired: it was held by others all the time; nothing is left behind.
            SizeDiffers: the store has the resource with another size.
            Unavailable: the store was never reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the token is being withdrawn.
        """
        if self.closed:
            raise Misuse(f"{resource}: these locks were closed; connect again")
        backend, sent = self.backend, self.runtime.now()
        token = self._owners.token()
        waiter: Waiter | None = None
        letter = backend.letter(token) if wait > 0.0 else None
        try:
            try:
                patience = backend.patience
                answer: int | Busy | Unavailable | OutcomeUnknown = await backend.take(
                    resource,
                    token,
                    claim,
                    ttl,
                    letter.address if letter else "",
                    wait if 0.0 < wait < patience else patience,
                )
            except (Unavailable, OutcomeUnknown) as error:
                answer = error
            if isinstance(answer, int):
                fence, start = answer, sent
            else:
                waiter = Waiter(self.runtime, backend, resource, claim, token, ttl, wait, sent, letter)
                if isinstance(answer, Busy):
                    self.meters[resource.kind].contended.n += 1
                # Names of locks are unbounded and may be personal: they are no attribute.
                with span("lock.wait", backend=backend.kind, recipe=resource.kind):
                    fence, start = await waiter.run(answer)
            if backend.session is not None:
                ttl = min(ttl, backend.session)
            grant = Grant(resource, token, fence, ttl, deadline(start, ttl), start, renew, claim, start + max_hold)
            self._keeper.watch(self, grant, start)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(error, Misuse) or waiter is not None:
                await self.runtime.shield(self._give_up(resource, token, ttl, waiter, error))
            raise
        finally:
            if waiter is not None:
                letter = waiter.letter
            if letter is not None:
                letter.close()
        meters = self.meters[resource.kind]
        meters.acquired.n += 1
        meters.waited.record(self.runtime.now() - sent)
        return grant

    async def _give_up(
        self, resource: Resource, token: str, ttl: float, waiter: Waiter | None, error: BaseException
    ) -> None:
        """Leave nothing behind of an acquisition that failed or was interrupted (C9, O7)."""
        if isinstance(error, NotAcquired):
            self.meters[resource.kind].refused.n += 1
        elif isinstance(error, Unavailable):
            self.meters[resource.kind].unavailable.n += 1
        elif isinstance(error, OutcomeUnknown):
            # The store is not answering: waiting for it would exceed the caller's time (C8).
            self.meters[resource.kind].unknown.n += 1
            self._keeper.insist(self, resource, token, ttl)
            return
        if waiter is not None and not waiter.entangled and isinstance(error, (NotAcquired, Unavailable)):
            return  # the store never saw the token in its queue
        in_flight = waiter is None or waiter.in_flight or not isinstance(error, NotAcquired)
        try:
            await self.backend.withdraw(resource, token, in_flight, min(self.backend.patience, PARTING))
        except (Unavailable, OutcomeUnknown):
            self._keeper.insist(self, resource, token, ttl)

    async def release(self, grant: Grant) -> None:
        """Give a lease back; a second call does nothing (C7). Runs to its end through any cancellation.

        Raises:
            LockLost: it had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe, and at the latest
                the lock comes free when its time-to-live is over (R6).
        """
        if grant.state is not RELEASED and grant.state is not State.DETACHED:
            await self.runtime.shield(self._release(grant))

    async def leave(self, grant: Grant) -> LockLost | None:
        """Give a lease back at the end of its block, where an unanswered release is nobody's failure.

        The work was done under the lease. A release that is not answered goes to the keeper.
        """
        try:
            await self.release(grant)
        except LockLost as error:
            return error
        except (Unavailable, OutcomeUnknown) as error:
            logger.warning("%s is being given back in the background: %s", grant.resource, error)
            self._keeper.insist(self, grant.resource, grant.token, grant.ttl)
        return None

    async def _release(self, grant: Grant) -> None:
        now = self.runtime.now()
        if grant.state is HELD and now >= grant.deadline:
            self._keeper.expire(self, grant)
        if grant.state is LOST:
            if grant.reason == "max_hold":  # it stands at the store until its ttl is over; nobody need wait for that
                self._keeper.insist(self, grant.resource, grant.token, grant.ttl)
            raise grant.lost(now)
        renewal = self._keeper.forget(grant)
        if renewal is not None:
            await renewal.wait(self.backend.patience)
        again = grant.releasing_since is not None
        if grant.releasing_since is None:
            grant.releasing_since = now
        answer = await self.backend.release(grant.resource, grant.token, grant.fence, self.backend.patience)
        if answer is Freed.NOT_OWNER and again:
            answer = Freed.PERHAPS_EARLIER
        # An earlier copy of our own request was sent while the lease was good: it is what freed the lock (R4).
        if answer is Freed.NOT_OWNER:
            self._keeper.lose(grant, "taken", self.meters)
            raise grant.lost(now)
        grant.move(State.RELEASED)
        self.meters[grant.resource.kind].held.record(now - grant.since)
        tell(grant)

    async def extend(self, grant: Grant, ttl: float) -> None:
        """Set the lease to end no earlier than `ttl` seconds from now.

        Raises:
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; the deadline stays as it was.
        """
        sent = self.runtime.now()
        if not grant.valid(sent):
            raise grant.lost(sent)
        if self.backend.session is not None:  # no store can promise more than it keeps a silent session
            ttl = min(ttl, self.backend.session)
        timeout = min(self.backend.patience, grant.deadline - sent)
        (answer,) = await self.backend.renew([Renewal(grant.resource, grant.token, grant.fence, ttl)], timeout)
        if answer is Kept.NOT_OWNER:
            self._keeper.lose(grant, "taken", self.meters)
            raise grant.lost(sent)
        if answer is not Kept.RENEWED:
            raise Misuse(
                f"{grant.resource} could not be extended at {self.backend.label}: its key there has "
                + ("no expiry; somebody ran PERSIST on it" if answer is Kept.NO_EXPIRY else "another form")
            )
        grant.extended(sent, ttl)

    async def lessen(self, grant: Grant, claim: Claim) -> None:
        """Keep less than is held, without a gap: a writer becomes a reader, some permits are given back.

        Raises:
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        sent = self.runtime.now()
        if not grant.valid(sent):
            raise grant.lost(sent)
        answer = await self.backend.lessen(grant.resource, grant.token, grant.fence, claim, self.backend.patience)
        if answer is Freed.NOT_OWNER:
            self._keeper.lose(grant, "taken", self.meters)
            raise grant.lost(sent)
        grant.claim = claim

    async def part(self, grant: Grant, ttl: float) -> None:
        """Let another process go on with a lease, which has `ttl` seconds from now; here it is over (O4).

        Raises:
            Misuse: grants of this store live with its session.
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; it is held here as before.
        """
        if self.backend.session is not None:
            raise Misuse(
                f"{grant.resource} lives with this process's session at {self.backend.label}, so nobody else can go on "
                "with it: release it, or keep locks that change hands in a store of leases"
            )
        await self.extend(grant, ttl)
        renewal = self._keeper.forget(grant, State.DETACHED)
        if grant.state is not State.DETACHED:  # lost, or released by another thread, while the store was asked
            raise grant.lost(self.runtime.now())
        tell(grant)
        try:
            if renewal is not None:
                await renewal.wait(self.backend.patience)
        except GeneratorExit:
            raise
        except BaseException:  # the caller gets no text, so nobody will ever hold it
            self._keeper.insist(self, grant.resource, grant.token, grant.ttl)
            raise

    async def adopt(
        self, resource: Resource, token: str, fence: int, ttl: float, claim: Claim, renew: bool, max_hold: float
    ) -> Grant:
        """Go on with a lease that another process parted from.

        Raises:
            Misuse: it is held here already, or these locks were closed.
            LockLost: it ended on the way.
            Unavailable, OutcomeUnknown: the store did not answer; asking again is safe.
        """
        if self.closed:
            raise Misuse(f"{resource}: these locks were closed; connect again")
        if any(grant.token == token for grant in self._keeper.grants(self)):
            raise Misuse(f"{resource} was attached in this process already; a hand-over is attached once")
        sent = self.runtime.now()
        grant = Grant(resource, token, fence, ttl, deadline(sent, ttl), sent, renew, claim, sent + max_hold)
        (answer,) = await self.backend.renew([Renewal(resource, token, fence, ttl)], self.backend.patience)
        if answer is not Kept.RENEWED:
            grant.move(LOST, "taken")
            raise grant.lost(sent)
        self._keeper.watch(self, grant, sent)
        self.meters[resource.kind].acquired.n += 1
        return grant

    def abandon(self, grant: Grant) -> None:
        """Announce the loss of a lease without giving it back: what it covers goes on, so its ttl must run out."""
        self._keeper.lose(grant, "closed", self.meters)

    # -- what becomes of the store's session; called from its thread

    def doubted(self) -> None:
        """Rely on no lease until it has been verified (Z6)."""
        for grant in self._keeper.grants(self):
            grant.doubted = True

    def settled(self) -> None:
        """Verify each lease now (Z7)."""
        for grant in self._keeper.grants(self):
            if grant.state is HELD:
                self._keeper.plan(self, grant, self.runtime.now())

    def ended(self) -> None:
        """Announce the loss of every lease."""
        for grant in self._keeper.grants(self):
            self._keeper.lose(grant, "session", self.meters)

    async def close(self) -> None:
        """Announce the loss of every lease that is still held, give it back, and drop the connections (O6)."""
        self.closed = True
        for grant in self._keeper.grants(self):
            self._keeper.lose(grant, "closed", self.meters)
            try:
                await self.backend.withdraw(grant.resource, grant.token, False, min(self.backend.patience, PARTING))
            except (Unavailable, OutcomeUnknown) as error:
                logger.warning("lock %r was not given back at close: %s", grant.resource, error)
                break  # the store does not answer; the times-to-live free the rest
        await self.backend.close()
