"""One segment of a stock as a value: so many units, of which some are sold, some held for a while, the rest free.

Whatever happens, free + held + sold is the total: what is held has an end by the store's clock, after which it counts
as free again, so nothing can be lost with the process that held it (G5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backstay.errors import Misuse
from backstay.locks.register import Next

__all__ = ["HELD", "Part", "SegmentForm", "SegmentState", "add", "commit", "extend", "fill", "give_back", "share",
           "take", "touch"]  # fmt: skip

HELD = 400
"""Portions that one segment carries at a time."""

SETTLED = 64
"""Portions of which a segment remembers how they ended, for those who ask twice."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one portion holds of one segment, until when by the store's clock."""

    quantity: int
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentState:
    """Where a segment stands.

    Args:
        segments: how many the stock has.
        filled: what the whole stock was filled with.
        total: all units of this segment, what was added later included.
        sold: those that are gone for good.
        held: those that are held, by portion.
        settled: the portions that ended lately, and whether they were sold.
    """

    segments: int
    filled: int
    total: int
    sold: int = 0
    held: Mapping[str, Part] = field(default_factory=dict[str, Part])
    settled: tuple[tuple[str, bool], ...] = ()

    def at(self, now: float) -> SegmentState:
        """Return the state without what is not held any more."""
        live = {mark: part for mark, part in self.held.items() if part.ends > now}
        return self if len(live) == len(self.held) else replace(self, held=live)

    @property
    def free(self) -> int:
        """What can be taken; of a state that was brought up to now."""
        return self.total - self.sold - self.taken

    @property
    def taken(self) -> int:
        """What is held."""
        return sum(part.quantity for part in self.held.values())


class SegmentForm:
    """A segment as JSON."""

    def load(self, body: Mapping[str, Any]) -> SegmentState:
        return SegmentState(
            segments=body["segments"],
            filled=body["filled"],
            total=body["total"],
            sold=body["sold"],
            held={mark: Part(quantity, ends) for mark, (quantity, ends) in body["held"].items()},
            settled=tuple((mark, sold) for mark, sold in body["settled"]),
        )

    def dump(self, state: SegmentState) -> dict[str, Any]:
        return {
            "segments": state.segments,
            "filled": state.filled,
            "total": state.total,
            "sold": state.sold,
            "held": {mark: [part.quantity, part.ends] for mark, part in state.held.items()},
            "settled": state.settled,
        }


def share(total: int, segments: int, number: int) -> int:
    """Return what one segment gets of a total."""
    return total // segments + (number < total % segments)


def checked(state: SegmentState | None, name: str, segments: int) -> SegmentState:
    """Return the state.

    Raises:
        Misuse: the stock was not filled, or has another number of segments.
    """
    if state is None:
        raise Misuse(f"stock {name!r} is not filled, or not wholly so; call fill(total) first, which may be repeated")
    if state.segments != segments:
        raise Misuse(
            f"stock {name!r} has {state.segments} segments at the store, and this caller says {segments}; "
            f"say {state.segments}"
        )
    return state


def fill(state: SegmentState | None, name: str, segments: int, total: int, number: int) -> Next[SegmentState, None]:
    """Give a segment its share, once."""
    if state is None:
        return Next(None, SegmentState(segments=segments, filled=total, total=share(total, segments, number)))
    if checked(state, name, segments).filled != total:
        raise Misuse(
            f"stock {name!r} was filled with {state.filled} before, and this caller says {total}; "
            "add(quantity) adds to it"
        )
    return Next(None)


def add(state: SegmentState, quantity: int) -> Next[SegmentState, None]:
    """Add units."""
    return Next(None, replace(state, total=state.total + quantity))


def take(state: SegmentState, mark: str, least: int, most: int, ttl: float, now: float) -> Next[SegmentState, int]:
    """Hold from `least` to `most` units for `ttl` seconds; the answer is how many, 0 where there are fewer."""
    here = state.at(now)
    mine = here.held.get(mark)
    if mine is None:
        quantity = min(here.free, most)
        if quantity < least or len(here.held) >= HELD:
            return Next(0)
        mine = Part(quantity, now + ttl)
    return Next(mine.quantity, _holding(here, mark, Part(mine.quantity, now + ttl)), timed=True)


def extend(state: SegmentState, mark: str, ttl: float, now: float) -> Next[SegmentState, bool]:
    """Hold what is held for `ttl` seconds from now, never shorter than before; the answer is whether it still was."""
    mine = state.at(now).held.get(mark)
    if mine is None:
        return Next(False)
    return Next(True, _holding(state.at(now), mark, Part(mine.quantity, max(mine.ends, now + ttl))), timed=True)


def commit(state: SegmentState, mark: str, now: float) -> Next[SegmentState, bool]:
    """Sell what is held; the answer is whether it was still held, or sold by an earlier call."""
    here = state.at(now)
    mine = here.held.get(mark)
    if mine is None:
        return Next((mark, True) in here.settled)
    return Next(True, replace(_settled(here, mark, True), sold=here.sold + mine.quantity))


def give_back(state: SegmentState, mark: str, now: float) -> Next[SegmentState, None]:
    """Hold it no more."""
    if mark not in state.held:
        return Next(None)
    return Next(None, _settled(state.at(now), mark, False))


def touch(state: SegmentState) -> Next[SegmentState, None]:
    """Write what is there, for a store that tells its clock only with writes."""
    return Next(None, state)


def _holding(state: SegmentState, mark: str, part: Part) -> SegmentState:
    return replace(state, held={**state.held, mark: part})


def _settled(state: SegmentState, mark: str, sold: bool) -> SegmentState:
    held = {each: part for each, part in state.held.items() if each != mark}
    return replace(state, held=held, settled=(*state.settled, (mark, sold))[-SETTLED:])
