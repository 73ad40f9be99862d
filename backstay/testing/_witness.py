"""One order of events that explains a history, found without a search.

Why that is enough in nearly all cases. Who came before whom is no guess where grants have fences: they rise, so the
order of grants is the order of fences. What is left is when each grant and each end took effect, within its interval.

* Nobody inside beside those whom they exclude: a grant as late as it can be, and an end as early as it can be, leave
  each holder the shortest stay, so if even these stays collide then all do. That decides the matter, in n log n.
* Nobody refused what was free: the other way round. Grants as early and ends as late as the first allows leave the
  longest stays, so that a refusal among them is explained. Where this does not explain one, others may, and only
  a search can tell (`_search`).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

from backstay.locks.claims import Unit, fits, weigh

from ._acquisitions import Acquisition, Outcome, Part

__all__ = ["Stay", "collisions", "explained", "latest_grants", "stays", "take_off",
           "waited_for"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What was held by one from a moment to another, in this explanation."""

    holder: Acquisition
    units: tuple[Unit, ...]
    began: float
    ended: float


class _Bounds:
    """Who was answered first of those with a higher fence: of all, or of each unit and weight."""

    def __init__(self, total: bool) -> None:
        self._total = total
        self._of: dict[str, dict[int, tuple[float, Acquisition]]] = {}

    def before(self, each: Acquisition) -> tuple[float, Acquisition | None]:
        """Return until when `each` must have been granted, and whose answer says so."""
        found: tuple[float, Acquisition | None] = (inf, None)
        for unit in (Unit("", 1, 1),) if self._total else each.units:
            for weight, bound in self._of.get(unit.label, {}).items():
                if weight + unit.weight > (unit.capacity or each.size) and bound[0] < found[0]:
                    found = bound
        return found

    def add(self, each: Acquisition, moment: float) -> None:
        """Note when `each` was granted at the latest."""
        for unit in (Unit("", 1, 1),) if self._total else each.units:
            of = self._of.setdefault(unit.label, {})
            if unit.weight not in of or moment < of[unit.weight][0]:
                of[unit.weight] = (moment, each)


def latest_grants(
    won: Sequence[Acquisition], total: bool
) -> tuple[list[tuple[float, Acquisition]], list[tuple[str, Acquisition]]]:
    """Return all that were granted, in an order of grants, each with the latest moment that its grant can have been.

    Also returns those for which there is no such moment, with the reason: their fences do not rise.
    """
    faults: list[tuple[str, Acquisition]] = []
    granted: list[tuple[float, Acquisition]] = [(each.answered, each) for each in won if each.fence is None]
    fenced = sorted((each for each in won if each.fence is not None), key=lambda each: each.fence or 0)
    bounds = _Bounds(total)
    for place in range(len(fenced) - 1, -1, -1):
        each = fenced[place]
        if place and fenced[place - 1].fence == each.fence:  # no two, whatever they claim
            faults.append((f"fence {each.fence} was drawn twice: also by {fenced[place - 1]}", each))
        bound, later = bounds.before(each)
        if bound < each.asked:
            faults.append((f"a stale fence: {later} was answered before with a higher one", each))
            bound = inf  # others are reported by themselves
        bound = min(bound, each.answered)
        bounds.add(each, bound)
        granted.append((bound, each))
    granted.sort(key=lambda entry: (entry[0], entry[1].fence or 0))
    return granted, faults


def collisions(granted: Sequence[tuple[float, Acquisition]]) -> list[tuple[str, Acquisition]]:
    """Return those who were let in beside others whom they exclude, whenever each of them came and went."""
    faults: list[tuple[str, Acquisition]] = []
    inside: list[tuple[float, int, Acquisition, Part]] = []
    used: dict[str, int] = {}
    number = count()
    for moment, each in granted:
        while inside and inside[0][0] <= moment:
            _, _, _, part = heapq.heappop(inside)
            take_off(used, part.units)
        if not fits(used, each.units, each.size):
            labels = {unit.label for unit in each.units}
            others = [
                f"{holder} until {earliest:.6f}"
                for earliest, _, holder, part in sorted(inside, key=lambda entry: entry[:2])
                if labels & {unit.label for unit in part.units}
            ]
            shown = "; ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
            faults.append((f"let in at {moment:.6f} at the latest, beside {shown}", each))
        for part in each.parts:
            if part.earliest > moment:
                heapq.heappush(inside, (part.earliest, next(number), each, part))
                weigh(used, part.units)
    return faults


def stays(granted: Sequence[tuple[float, Acquisition]]) -> list[Stay]:
    """Return an explanation with the longest stays: each let in as early as can be, and out when another needs room.

    `granted` must be free of collisions.
    """
    done: list[Stay] = []
    inside: list[tuple[float, float, Acquisition, Part]] = []  # with the moment of each grant
    used: dict[str, int] = {}
    now = -inf

    def leave(entry: tuple[float, float, Acquisition, Part], moment: float) -> None:
        _, began, holder, part = entry
        inside.remove(entry)
        take_off(used, part.units)
        done.append(Stay(holder=holder, units=part.units, began=began, ended=max(moment, began)))

    for _, each in granted:
        now = max(now, each.asked)
        for entry in [entry for entry in inside if entry[3].latest <= now]:
            leave(entry, entry[3].latest)
        labels = {unit.label for unit in each.units}
        while not fits(used, each.units, each.size):
            blocking = [entry for entry in inside if labels & {unit.label for unit in entry[3].units}]
            first = min(blocking, key=lambda entry: (max(entry[3].earliest, entry[1]), entry[3].latest))
            now = max(now, first[3].earliest)
            leave(first, now)
        for part in each.parts:
            inside.append((part.latest, now, each, part))
            weigh(used, part.units)
    while inside:
        leave(inside[0], inside[0][3].latest)
    done.sort(key=lambda stay: stay.began)
    return done


class Timeline:
    """How much is held of each unit, between any two moments at which that changes."""

    def __init__(self, held: Sequence[Stay]) -> None:
        changes: list[tuple[float, int, int, tuple[Unit, ...]]] = []
        for number, stay in enumerate(held):
            if stay.began < stay.ended:
                changes.append((stay.began, 1, number, stay.units))
                changes.append((stay.ended, -1, number, stay.units))
        changes.sort(key=lambda change: change[:3])
        self.moments: list[float] = []
        self.used: list[dict[str, int]] = []
        used: dict[str, int] = {}
        for moment, sign, _, units in changes:
            used = dict(used)
            if sign > 0:
                weigh(used, units)
            else:
                take_off(used, units)
            if self.moments and self.moments[-1] == moment:
                self.used[-1] = used
            else:
                self.moments.append(moment)
                self.used.append(used)

    def between(self, first: float, last: float) -> list[tuple[int, dict[str, int]]]:
        """Return what was held at the moments from `first` to `last`, both included, each with its place."""
        low, high = bisect_left(self.moments, first) - 1, bisect_right(self.moments, last)
        return [(place, self.used[place] if place >= 0 else {}) for place in range(low, max(high, low + 1))]

    def period(self, place: int) -> tuple[float, float]:
        """Return when a period begins and ends."""
        last = place + 1 < len(self.moments)
        return self.moments[place] if place >= 0 else -inf, self.moments[place + 1] if last else inf


def explained(
    refused: Sequence[Acquisition], everybody: Sequence[Acquisition], held: Sequence[Stay]
) -> list[Acquisition]:
    """Return those refusals that `held` does not explain: there was room for them all the time.

    A refusal is explained by those who hold, by one who waits because of them and came before, or by one who may have
    been in then without a word of it: an acquisition of unknown outcome, or one that waited, gave up, and was granted
    just then, before it took that back. Such a one explains refusals of one period only.
    """
    timeline = Timeline(held)
    began = {id(stay.holder): stay.began for stay in held}
    asking = sorted(everybody, key=lambda each: each.asked)
    ghosts = {id(each): -1 for each in asking if each.outcome is Outcome.UNKNOWN}  # and from which period on
    open_: list[tuple[Acquisition, list[tuple[int, dict[str, int]]]]] = []
    for each in refused:
        periods = timeline.between(each.asked, each.answered)
        for place, used in periods:
            if not fits(used, each.units, each.size) or (used and waited_for(each, asking, began, used)):
                ghosts[id(each)] = place
                break
        else:
            open_.append((each, periods))
    perhaps = [(each, ghosts[id(each)]) for each in asking if id(each) in ghosts]
    haunted: dict[str, int] = {}

    def is_haunted(refusal: Acquisition, place: int, used: dict[str, int]) -> bool:
        start, end = timeline.period(place)
        start, end = max(start, refusal.asked), min(end, refusal.answered)
        for ghost, since in perhaps:
            if ghost.asked > end:
                break
            if ghost.latest < start or place < since or haunted.get(ghost.attempt, place) != place:
                continue
            together = dict(used)
            weigh(together, ghost.units)
            if fits(used, ghost.units, ghost.size) and not fits(together, refusal.units, refusal.size):
                haunted[ghost.attempt] = place
                return True
        return False

    return [each for each, periods in open_ if not any(is_haunted(each, place, used) for place, used in periods)]


def waited_for(
    refused: Acquisition, asking: Sequence[Acquisition], began: Mapping[int, float], used: dict[str, int]
) -> bool:
    """Return whether those who waited at that time were in the way: one did not fit, and together they left no room."""
    before = dict(used)
    waits = False
    for other in asking:
        if other.asked > refused.answered:
            break
        if other is refused or began.get(id(other), other.answered) < refused.asked:
            continue
        waits = waits or not fits(used, other.units, other.size)
        weigh(before, other.units)
    return waits and not fits(before, refused.units, refused.size)


def take_off(used: dict[str, int], units: Sequence[Unit]) -> None:
    """Subtract the weights of `units` from what is used."""
    for unit in units:
        used[unit.label] -= unit.weight
        if not used[unit.label]:
            del used[unit.label]
