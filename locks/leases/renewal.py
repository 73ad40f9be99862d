"""One batch of renewals and withdrawals for one store, run beside the keeper."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from backstay.errors import BackstayError
from backstay.runtime import Runtime

from ..backend import Backend, Kept, Renewal
from ..claims import Resource
from ..telemetry import Meters
from .lease import HELD, Grant, first_renewal, next_renewal

if TYPE_CHECKING:
    from .keeper import Keeper

__all__ = ["Batch", "Errand", "Lane", "Ward"]

logger = logging.getLogger("backstay.locks")


class Ward(Protocol):
    """What the keeper must know of those whose leases it keeps."""

    @property
    def backend(self) -> Backend:
        """Where the leases are."""
        ...

    @property
    def meters(self) -> Meters:
        """What is counted."""
        ...


class Errand:
    """A token that must be withdrawn, again and again until the store has answered or `until` has passed."""

    __slots__ = ("due", "failures", "resource", "token", "ttl", "until")

    def __init__(self, resource: Resource, token: str, ttl: float, until: float) -> None:
        self.resource, self.token, self.ttl, self.until = resource, token, ttl, until
        self.due = 0.0
        self.failures = 0


class Lane:
    """What is due for one store while a worker is busy with it: so there is one connection and one thread a store."""

    __slots__ = ("began", "waiting", "ward", "workers")

    def __init__(self, ward: Ward) -> None:
        self.ward = ward  # kept alive: lanes are found by its identity
        self.waiting: list[Grant | Errand] = []
        self.began = 0.0
        self.workers = 0


class Batch:
    """What is due for one store now."""

    __slots__ = ("_due", "_keeper", "_runtime", "_ward")

    def __init__(self, keeper: Keeper, runtime: Runtime, ward: Ward, due: list[Grant | Errand]) -> None:
        self._keeper, self._runtime, self._ward, self._due = keeper, runtime, ward, due

    async def run(self) -> None:
        """Renew, then withdraw, until nothing is left; what the store did not answer is planned again."""
        try:
            while self._due:
                grants = [what for what in self._due if isinstance(what, Grant)]
                if grants:
                    await self._renew(grants)
                for what in self._due:
                    if isinstance(what, Errand):
                        await self._withdraw(what)
                self._due = self._keeper.next_batch(self._ward, self._runtime.now())
        except BaseException:  # a loop that ends; whoever comes later must not wait for this worker
            self._keeper.abandon(self._ward)
            raise

    async def _renew(self, due: list[Grant]) -> None:
        ward, keeper, now = self._ward, self._keeper, self._runtime.now
        grants, signal = keeper.begin_renewal(due)
        sent = now()
        answers: list[Kept] = []
        try:
            if grants:
                # No longer than until the first deadline: then the losses are known, and the rest is asked again.
                timeout = min(ward.backend.patience, min(grant.deadline for grant in grants) - sent)
                leases = [Renewal(grant.resource, grant.token, grant.fence, grant.ttl) for grant in grants]
                answers = await ward.backend.renew(leases, max(timeout, 0.001))
        except BackstayError as error:
            logger.warning("%d locks at %s were not renewed: %s", len(grants), ward.backend.label, error)
        except Exception:
            logger.exception("%d locks at %s were not renewed", len(grants), ward.backend.label)
        finally:
            keeper.end_renewal(grants, signal)
        for place, grant in enumerate(grants):
            self._renewed(grant, answers[place] if place < len(answers) else Kept.FAILED, sent)

    def _renewed(self, grant: Grant, answer: Kept, sent: float) -> None:
        if grant.state is not HELD:
            return
        meters, chance = self._ward.meters, self._runtime.uniform(0.0, 1.0)
        if answer is Kept.RENEWED:
            meters[grant.resource.kind].renewed.n += 1
            if not grant.renew:  # verified after a doubt, and no more than that (Z7)
                grant.doubted = False
                self._keeper.plan(self._ward, grant, grant.deadline)
                return
            grant.extended(sent, grant.ttl)
            self._keeper.plan(self._ward, grant, min(first_renewal(sent, grant.ttl, chance), grant.deadline))
        elif answer is Kept.NOT_OWNER:
            self._keeper.lose(grant, "taken", meters)
        else:
            meters[grant.resource.kind].not_renewed.n += 1
            grant.failures += 1
            again = next_renewal(self._runtime.now(), grant.ttl, grant.failures, chance)
            self._keeper.plan(self._ward, grant, min(again, grant.deadline))

    async def _withdraw(self, errand: Errand) -> None:
        try:
            await self._ward.backend.withdraw(errand.resource, errand.token, True, self._ward.backend.patience)
        except Exception as error:
            errand.failures += 1
            now = self._runtime.now()
            again = next_renewal(now, max(errand.ttl, 1.0), errand.failures, self._runtime.uniform(0.0, 1.0))
            if again < errand.until:
                self._keeper.plan(self._ward, errand, again)
            else:
                logger.warning("%s: token %s was not withdrawn: %s", errand.resource, errand.token, error)
