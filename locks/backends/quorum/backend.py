"""The port over several masters that know nothing of each other: what a majority of them grants is held.

Theory of operation. Every master has the lock under the same key. One attempt asks all of them at once, each for much
less than the ttl; it holds if a majority granted it (K1) and enough of the ttl is left when the last of these answered.
Two majorities share a master, and that one grants it once. An attempt that fails is given back everywhere, what
was not answered included, and the next has a number of its own, so that no late message of one touches another (K2).

The fence (K5). Each master draws one, above its own earlier ones and not below its clock. The highest of a majority is
the grant's, and is written back to a majority that still holds it before the grant counts: so whoever comes
later draws above it at the master that both majorities share. That costs a second round to the masters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.locks.backend import TOMBSTONE, Busy, Freed, Kept, Letter, Renewal, Survey, Watcher
from backstay.locks.backends.redis.answers import Request
from backstay.locks.backends.redis.keys import keys_of, resource_of, tombstone
from backstay.locks.backends.redis.reading import milliseconds
from backstay.locks.backends.redis.scripts import SCAN
from backstay.locks.claims import Claim, Resource
from backstay.locks.leases.lease import DRIFT
from backstay.runtime import Runtime

from .masters import Masters
from .polling import PollingLetter
from .scripts import CONFIRM, GIVE_BACK, LAST, LOOK, RENEW, TAKE
from .votes import Outcome, busy, freed, granted, kept, majority, said, survey, unknown, yes_or_hopeless

__all__ = ["QuorumBackend"]

SHORTEST = 0.05  # s; masters are told no shorter ttl, since asking them takes some of it
MARGIN = 0.002  # s, what clocks and timers of masters may be off beyond their rate (K1)
SHARE = 5.0  # a master has a fifth of the ttl to answer
LEAST = 0.05  # s that it has in any case
BATCH = 256  # renewals in one write
LOOK_AT = 1000  # keys that a master looks at in one step of a listing


class QuorumBackend:
    """The port over `Masters`.

    Args:
        runtime: the make that the masters are of.
        masters: where to ask.
        space: the namespace.
        label: what errors call them.
        patience: seconds for one exchange.
        within: seconds that one master has to answer, at most.
        fence: whether grants have fences.
        max_ttl: the longest ttl in seconds that may be asked for (K4).
    """

    kind = "redis-quorum"
    kinds = frozenset({"lock"})
    session = None
    documents = None

    def __init__(
        self,
        runtime: Runtime,
        masters: Masters,
        space: str,
        label: str,
        *,
        patience: float,
        within: float,
        fence: bool,
        max_ttl: float,
    ) -> None:
        self._runtime, self._masters, self._space = runtime, masters, space
        self._ask, self._now = masters.ask, runtime.now
        self.label, self.patience = label, patience
        self._within, self._fence, self._max_ttl = within, fence, max_ttl
        self._count = len(masters.wires)
        self._quorum = majority(self._count)
        self._granted = yes_or_hopeless(granted, self._quorum)
        self._yes = yes_or_hopeless(_is_one, self._quorum)
        self._attempts = itertools.count(1).__next__
        self._closed = False

    def attend(self, watcher: Watcher) -> None:
        """No session here: each grant has its own time."""

    # -- taking

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        self._check(resource, ttl)
        began, attempt = self._now(), self._attempts()
        keys = keys_of(self._space, resource.name)
        lasts = max(ttl, SHORTEST)
        request = Request(
            TAKE,
            (keys[0], keys[1], tombstone(keys[0], token)),
            (token, attempt, milliseconds(lasts + MARGIN), "fence" if self._fence else ""),
        )
        within = self._share(ttl, timeout)
        outcomes = await self._ask(request, self._granted, within)
        fences = [int(each[0]) for each in outcomes if type(each) is tuple and granted(each[0])]
        if len(fences) >= self._quorum:
            fence = max(fences)
            confirmed = not self._fence or await self._confirmed(keys, f"{token}|{attempt}", fence, within)
            if confirmed and self._now() - began < lasts * (1.0 - DRIFT):
                return fence
        left = await self._give_up(keys[0], token, attempt, outcomes, within)
        if len(fences) < self._quorum and said(outcomes, _any) >= self._quorum:
            return busy(outcomes)
        raise self._failure(outcomes, left, late=len(fences) >= self._quorum)

    async def _confirmed(self, keys: Sequence[str], value: str, fence: int, within: float) -> bool:
        answers = await self._ask(Request(CONFIRM, (keys[0], keys[1]), (value, fence)), self._yes, within)
        return said(answers, _is_one) >= self._quorum

    async def _give_up(
        self, owner: str, token: str, attempt: int, outcomes: Sequence[Outcome], within: float
    ) -> list[int]:
        """Give back what an attempt got or may get; return the masters that may have something of it all the same."""
        suspects = [place for place, each in enumerate(outcomes) if _may_hold(each)]
        if not suspects:
            return []
        # A take that was not waited for stands before this on the same connection; one that was cut off does not.
        lost = any(isinstance(each, OutcomeUnknown) for each in outcomes)
        request = Request(
            GIVE_BACK,
            (owner, tombstone(owner, token)),
            (token, attempt, milliseconds(TOMBSTONE) if lost else 0),
        )
        sure = [place for place in suspects if type(outcomes[place]) is tuple]

        def enough(answers: Sequence[Outcome]) -> bool:
            return all(answers[place] is not None for place in sure)

        answers = await self._ask(request, enough, within, suspects)
        return [place for place in suspects if type(answers[place]) is not tuple]

    def _failure(self, outcomes: Sequence[Outcome], left: Sequence[int], *, late: bool) -> BackstayError:
        if late:
            text = f"a majority of the masters at {self.label} granted it too late for its ttl"
        else:
            why = "; ".join(str(each) for each in outcomes if isinstance(each, BackstayError))
            text = f"fewer than {self._quorum} of {self._count} masters at {self.label} answered: {why or 'in time'}"
        if left:
            return OutcomeUnknown(f"{text}; what {len(left)} of them may have granted is being given back")
        return Unavailable(text)

    # -- keeping and giving back

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        outcomes = await self._given_back(resource, token, 0, self._yes, timeout)
        answer = freed(outcomes, self._quorum)
        if answer is None:
            raise self._silence(outcomes)
        return answer

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        kept_for = milliseconds(TOMBSTONE) if in_flight else 0
        outcomes = await self._given_back(resource, token, kept_for, _all_told, timeout)
        if said(outcomes, _any) < self._quorum or any(map(unknown, outcomes)):
            raise self._silence(outcomes)

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        await self.withdraw(resource, token, True, timeout)

    async def _given_back(
        self, resource: Resource, token: str, kept_for: int, enough: Any, timeout: float
    ) -> list[Outcome]:
        self._check(resource, 0.0)
        owner = keys_of(self._space, resource.name)[0]
        request = Request(GIVE_BACK, (owner, tombstone(owner, token)), (token, LAST, kept_for))
        return await self._ask(request, enough, min(timeout, self._within))

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        if len(leases) == 1:
            (lease,) = leases
            request = self._renewal(lease)
            outcomes = await self._ask(request, self._yes, self._share(lease.ttl, timeout))
            answer = kept([each[0] if type(each) is tuple else None for each in outcomes], self._quorum)
            if answer is Kept.FAILED:
                raise self._silence(outcomes)
            return [answer]
        results: list[Kept] = []
        for start in range(0, len(leases), BATCH):
            requests = [self._renewal(lease) for lease in leases[start : start + BATCH]]
            within = min(timeout, self._within)
            told = await self._runtime.gather(
                *(partial(wire.call_all, requests, within) for wire in self._masters.wires)
            )
            results += [
                kept([each[place] if isinstance(each, list) else each for each in told], self._quorum)
                for place in range(len(requests))
            ]
        return results

    def _renewal(self, lease: Renewal) -> Request:
        self._check(lease.resource, lease.ttl)
        owner = keys_of(self._space, lease.resource.name)[0]
        ttl = milliseconds(max(lease.ttl, SHORTEST) + MARGIN)
        return Request(RENEW, (owner,), (lease.token, ttl, LAST))

    def _silence(self, outcomes: Sequence[Outcome]) -> BackstayError:
        why = "; ".join(str(each) for each in outcomes if isinstance(each, BackstayError))
        text = f"too few of the {self._count} masters at {self.label} answered: {why or 'in time'}"
        sent = any(type(each) is tuple or unknown(each) for each in outcomes)
        return OutcomeUnknown(text) if sent else Unavailable(text)

    # -- looking

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        self._check(resource, 0.0)
        keys = keys_of(self._space, resource.name)
        outcomes = await self._ask(Request(LOOK, keys[:2], ()), _all_told, min(timeout, self._within))
        answers = [each[0] for each in outcomes if type(each) is tuple]
        if len(answers) < self._quorum:
            raise self._silence(outcomes)
        return survey(answers, self._quorum)

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        """See `Backend.resources`; a lock that a majority holds is found at a majority of the masters."""
        until = self._now() + timeout
        seen: set[Resource] = set()
        found: list[Resource] = []
        lost: list[BackstayError] = []
        for wire in self._masters.wires:
            cursor, begun = b"0", False
            try:
                while len(found) < limit and not (begun and cursor == b"0"):
                    left, begun = until - self._now(), True
                    if left <= 0.0:
                        raise Unavailable(f"{self.label} has too many keys to list its locks in {timeout:g} s")
                    arguments = (cursor.decode(), f"backstay:{self._space}:{{*", LOOK_AT)
                    (cursor, keys), _ = await wire.call(SCAN, (), arguments, min(left, self._within))
                    told = {it for it in (resource_of(key.decode(errors="replace")) for key in keys) if it is not None}
                    for resource in sorted(told.difference(seen)):
                        seen.add(resource)
                        survey_of_it = await self.inspect(resource, max(until - self._now(), 0.001))
                        if survey_of_it.holders:
                            found.append(resource)
            except (Unavailable, OutcomeUnknown) as error:
                lost.append(error)
                if len(lost) > self._count - self._quorum:
                    raise
        return found[:limit]

    # -- what a lock has not

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        raise Misuse(f"{resource} is held as a whole by one: it has no parts to give back")

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        raise Misuse(f"{resource} is held as a whole by one: it has no size")

    def _check(self, resource: Resource, ttl: float) -> None:
        if resource.kind != "lock":
            raise Misuse(f"{resource}: independent masters carry locks only; keep it in one Redis, by a redis:// URL")
        if ttl > self._max_ttl:
            raise Misuse(
                f"{resource}: its ttl of {ttl:g} s is longer than max_ttl, {self._max_ttl:g} s, for which a master "
                "that restarted stays out; give the URL a larger '?max_ttl=', the same one in all processes"
            )

    def _share(self, ttl: float, timeout: float) -> float:
        return min(timeout, self._within, max(ttl / SHARE, LEAST))

    # -- the rest of the port

    def letter(self, token: str) -> Letter | None:
        return PollingLetter(self._runtime, lambda: self._closed)

    async def open(self, timeout: float) -> None:
        if self._closed:
            raise Misuse(f"the locks at {self.label} were closed; connect again")

    async def close(self) -> None:
        self._closed = True
        await self._masters.close()

    def forked(self) -> None:
        self._masters.forked()


def _is_one(answer: Any) -> bool:
    return type(answer) is int and answer == 1


def _any(answer: Any) -> bool:
    return True


def _all_told(outcomes: Sequence[Outcome]) -> bool:
    return None not in outcomes


def _may_hold(outcome: Outcome) -> bool:
    return unknown(outcome) or (type(outcome) is tuple and granted(outcome[0]))
