"""Whether a history of locks can have happened: one holder at a time, room for all permits, fences that rise.

    verdict = check(history.events())
    assert not verdict.violations, verdict

The model. A resource has units with capacities (`backstay.locks.claims`), so mutexes, read-write locks, semaphores and
segmented locks are one: a grant, at one moment between its request and its answer, must fit beside all who hold
then, and has a fence above all earlier ones. Entering again, by the same client and with the same fence, is no grant.
A hold lasts until its holder gave it back, was told of its loss, or its promised time was over. An operation without an
answer may have happened or not. A refusal says that at one moment there was no room, or that others waited before.

What is found for certain: two that exclude each other and both could rely on it; more than the capacity; a fence
that was drawn twice or does not rise; a refusal though all had been given back (a lost release). What is not
judged: fairness, and how long anybody waited. Resources are judged one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from backstay.errors import Misuse

from ._acquisitions import Acquisition, Outcome, acquisitions
from ._events import Event
from ._search import explainable
from ._witness import collisions, explained, latest_grants, stays

__all__ = ["Verdict", "Violation", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that cannot have happened with a correct lock.

    Args:
        resource: where.
        who: the acquisition that must not have ended as it did.
        what: `exclusion`, `fence` or `refusal`.
        text: what it collides with.
    """

    resource: str
    who: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.who}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the check found.

    Args:
        acquisitions: how many were judged.
        granted: how many of them were granted for certain.
        violations: what cannot have happened; empty where the history is linearizable.
        undecided: refusals that no quick explanation was found for and a search did not end on.
    """

    acquisitions: int
    granted: int
    violations: tuple[Violation, ...]
    undecided: tuple[Violation, ...] = ()

    @property
    def linearizable(self) -> bool | None:
        """Whether there is an order that explains everything; None where that could not be told."""
        return False if self.violations else None if self.undecided else True

    def __str__(self) -> str:
        found = "\n".join(f"  {violation}" for violation in self.violations[:20])
        more = f"\n  and {len(self.violations) - 20} more" if len(self.violations) > 20 else ""
        return (
            f"{self.acquisitions} acquisitions, {self.granted} granted, {len(self.violations)} violations, "
            f"{len(self.undecided)} undecided" + (f":\n{found}{more}" if found else "")
        )


def check(
    events: Iterable[Event], *, linger: float = inf, total_fences: bool = True, effort: int = 2_000_000
) -> Verdict:
    """Judge a history.

    Guaranteed: a violation is real, if all events were recorded and carry the times of one clock. A history without
    one is linearizable unless something is `undecided`.

    Args:
        events: what happened, in any order; each client's own in theirs.
        linger: seconds after the end of a lease that nobody gave back, at which the store must have freed it. Infinity
            leaves that open, and so accepts refusals for ever after a lost lease.
        total_fences: whether the fence of every grant is above all earlier ones of its resource. Without it that is
            asked only of those that exclude each other, as where a fence is the place in a queue from which others,
            whom they do not exclude, are let in before.
        effort: how much to search for each resource where no quick explanation is found.

    Raises:
        Misuse: `linger` is below 0.
    """
    if not linger >= 0.0:
        raise Misuse(f"linger must be >= 0 s, got {linger:g}")
    of: dict[str, list[Acquisition]] = {}
    for each in acquisitions(events, linger):
        of.setdefault(each.resource, []).append(each)
    violations: list[Violation] = []
    undecided: list[Violation] = []
    for own in of.values():
        found, open_ = _judge(own, total_fences, effort)
        violations += found
        undecided += open_
    everybody = [each for own in of.values() for each in own]
    return Verdict(
        acquisitions=len(everybody),
        granted=sum(each.outcome is Outcome.WON for each in everybody),
        violations=tuple(violations),
        undecided=tuple(undecided),
    )


def _judge(own: Sequence[Acquisition], total: bool, effort: int) -> tuple[list[Violation], list[Violation]]:
    """Return the violations of one resource, and what is undecided of it."""
    won = [each for each in own if each.outcome is Outcome.WON]
    granted, stale = latest_grants(won, total)
    found = [_violation(each, "fence", text) for text, each in stale]
    found += [_violation(each, "exclusion", text) for text, each in collisions(granted)]
    if found:  # explanations would be built on what cannot be
        return found, []
    refused = [each for each in own if each.outcome is Outcome.REFUSED]
    open_ = explained(refused, own, stays(granted))
    if not open_:
        return [], []
    text = "refused, though there was room for it all the time"
    for each in open_:
        if _beside(own, each, total, effort) is False:
            found.append(_violation(each, "refusal", text))
    if found:
        return found, []
    whole = explainable(own, refused, effort, total)
    if whole is False:
        return [_violation(each, "refusal", text + ", as far as all others can be explained") for each in open_], []
    return [], [] if whole else [_violation(each, "refusal", "undecided: " + text) for each in open_]


def _beside(own: Sequence[Acquisition], refused: Acquisition, total: bool, effort: int) -> bool | None:
    """Return whether a refusal can be explained by those alone who can have met it."""
    met = [each for each in own if each.asked <= refused.answered and each.latest >= refused.asked]
    return explainable(met, [refused], effort, total)


def _violation(each: Acquisition, what: str, text: str) -> Violation:
    return Violation(resource=each.resource, who=str(each), what=what, text=text)
