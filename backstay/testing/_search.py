"""Whether any order of events explains a history: the exact and exponential way, for the few that need it.

After Wing and Gong (*Testing and verifying concurrent objects*, 1993) with Lowe's memory of what was tried (*Testing
for linearizability*, 2017): pick, one after another, an event that nothing left must precede, and step back where none
goes on. Which events have been picked says all about the state, so no set of them is tried twice. A refusal changes
nothing, so it is picked as soon as it is explained, without an alternative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from backstay.locks.claims import Unit, fits, weigh

from ._acquisitions import Acquisition, Outcome
from ._witness import take_off, waited_for

__all__ = ["explainable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """An event: a grant, an end of a part (it has `units`), or a refusal; `after` is one that must come before."""

    of: Acquisition
    what: Literal["grant", "end", "refusal"]
    first: float
    last: float
    needed: bool
    units: tuple[Unit, ...] = ()
    after: int = -1


def explainable(
    everybody: Sequence[Acquisition], refused: Sequence[Acquisition], effort: int, total: bool = True
) -> bool | None:
    """Return whether some order explains every grant among `everybody` and the refusals that are asked about.

    Args:
        everybody: all acquisitions of one resource that may have had to do with each other.
        refused: those of them whose refusal is to be explained.
        effort: how many events may be looked at.
        total: whether fences rise with every grant, and not only among those that exclude each other.

    Returns:
        None where that was not enough to tell.
    """
    search = _Search(everybody, refused, total)
    return search.run(effort)


class _Search:
    def __init__(self, everybody: Sequence[Acquisition], refused: Sequence[Acquisition], total: bool) -> None:
        self.asking = sorted(everybody, key=lambda each: each.asked)
        points: list[_Point] = []
        for each in self.asking:
            if each.outcome not in (Outcome.WON, Outcome.UNKNOWN):
                continue
            won = each.outcome is Outcome.WON
            grant = len(points)
            points.append(
                _Point(of=each, what="grant", first=each.asked, last=each.answered if won else inf, needed=won)
            )
            points += [
                _Point(of=each, what="end", first=p.earliest, last=p.latest, needed=False, units=p.units, after=grant)
                for p in each.parts
            ]
        asked_about = {id(each) for each in refused}
        for each in self.asking:
            if each.outcome is not Outcome.REFUSED:
                continue
            place = -1  # whoever gave up may have been granted just then, and have taken it back at once
            if id(each) in asked_about:
                place = len(points)
                points.append(_Point(of=each, what="refusal", first=each.asked, last=each.answered, needed=True))
            points.append(_Point(of=each, what="grant", first=each.asked, last=inf, needed=False, after=place))
            ended = _Point(
                of=each,
                what="end",
                first=each.asked,
                last=each.answered,
                needed=False,
                units=each.units,
                after=len(points) - 1,
            )
            points.append(ended)
        self.points = points
        self.later = [_later(point, points, total) for point in points]
        self.wanted = sum(1 << place for place, point in enumerate(points) if point.needed)

    def run(self, effort: int) -> bool | None:
        """Walk; every step is undone on the way back."""
        tried: set[int] = set()
        used: dict[str, int] = {}
        began: dict[int, float] = {}
        trail: list[tuple[int, Iterator[int]]] = []  # what was done before, what is next
        done = self._refusals(0, used, began)
        trail.append((done, iter(self._next(done, used))))
        while trail:
            done, following = trail[-1]
            if not self.wanted & ~done:
                return True
            place = next(following, None)
            effort -= len(self.points)
            if effort < 0:
                return None
            if place is None:
                trail.pop()
                if trail:
                    self._undo(done & ~trail[-1][0], used, began)
                continue
            self._do(place, used, began)
            onwards = self._refusals(done | 1 << place, used, began)
            if onwards in tried:
                self._undo(1 << place, used, began)
                continue
            tried.add(onwards)
            trail.append((onwards, iter(self._next(onwards, used))))
        return False

    def _next(self, done: int, used: Mapping[str, int]) -> list[int]:
        """Return the grants and ends that may come next: ends last, since a stay that goes on explains more."""
        bound = self._bound(done)
        grants: list[int] = []
        ends: list[tuple[float, int]] = []
        for place, point in enumerate(self.points):
            if done >> place & 1 or point.first > bound:
                continue
            if point.what == "refusal" or (point.after >= 0 and not done >> point.after & 1):
                continue
            if point.what == "end":
                ends.append((point.last, place))
            else:
                if not done & self.later[place] and fits(used, point.of.units, point.of.size):
                    grants.append(place)
        return grants + [place for _, place in sorted(ends)]

    def _bound(self, done: int) -> float:
        """Return the moment before which the next event begins: something left has ended by then."""
        bound = inf
        for place, point in enumerate(self.points):
            if done >> place & 1 or point.last >= bound:
                continue
            if point.what == "end" and not done >> point.after & 1 and point.of.outcome is not Outcome.WON:
                continue  # what was never granted need not end
            bound = point.last
        return bound

    def _refusals(self, done: int, used: dict[str, int], began: dict[int, float]) -> int:
        """Pick all refusals that are explained now."""
        bound = self._bound(done)
        for place, point in enumerate(self.points):
            if done >> place & 1 or point.what != "refusal" or point.first > bound:
                continue
            if not fits(used, point.of.units, point.of.size) or (
                used and waited_for(point.of, self.asking, began, used)
            ):
                done |= 1 << place
                bound = self._bound(done)
        return done

    def _do(self, place: int, used: dict[str, int], began: dict[int, float]) -> None:
        point = self.points[place]
        if point.what == "end":
            take_off(used, point.units)
        else:
            weigh(used, point.of.units)
            began[id(point.of)] = -inf

    def _undo(self, places: int, used: dict[str, int], began: dict[int, float]) -> None:
        for place, point in enumerate(self.points):
            if not places >> place & 1 or point.what == "refusal":
                continue
            if point.what == "end":
                weigh(used, point.units)
            else:
                take_off(used, point.of.units)
                began.pop(id(point.of))


def _later(point: _Point, points: Sequence[_Point], total: bool) -> int:
    """Return the grants that must not come before this one: their fences are not below its own."""
    if point.what != "grant" or point.of.fence is None:
        return 0
    used: dict[str, int] = {}
    weigh(used, point.of.units)
    return sum(
        1 << place
        for place, other in enumerate(points)
        if other is not point
        and other.what == "grant"
        and other.of.fence is not None
        and (
            other.of.fence == point.of.fence
            or (other.of.fence > point.of.fence and (total or not fits(used, other.of.units, other.of.size)))
        )
    )
