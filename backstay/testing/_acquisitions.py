"""From events to acquisitions: who asked when, was answered when, and between when and when each hold must have ended.

An operation took effect at one moment between its invocation and its answer; that is all that a history says. So the
end of a hold is an interval as well. It begins where the holder was last entitled to rely on it: when it
began to give it back, when its lease said that it was over, or where nothing more is known of it, at the end that the
store promised. It ends where the store has answered that it is over; without such an answer it may linger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from operator import attrgetter

from backstay.locks.claims import Unit

from ._events import Action, Event, Phase

__all__ = ["Acquisition", "Outcome", "Part", "acquisitions"]


class Outcome(Enum):
    """How an acquisition was answered."""

    WON = "won"
    REFUSED = "refused"
    NOT_DONE = "not done"
    UNKNOWN = "unknown"
    """It may have been granted, or be granted later: no answer, or one that says that nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some units that were held, and when they can have been given back; all parts of a hold begin together."""

    units: tuple[Unit, ...]
    earliest: float
    latest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """One acquisition, from its invocation to the end of what it won."""

    attempt: str
    client: str
    resource: str
    units: tuple[Unit, ...]
    size: int
    asked: float
    answered: float
    outcome: Outcome
    fence: int | None
    parts: tuple[Part, ...]
    why: str = ""

    @property
    def latest(self) -> float:
        """When the last of it can have been given back."""
        return max((part.latest for part in self.parts), default=self.answered)

    def __str__(self) -> str:
        fence = "" if self.fence is None else f", fence {self.fence}"
        return f"{self.client} ({self.attempt}{fence}, asked {self.asked:.6f}, answered {self.answered:.6f})"


def acquisitions(events: Iterable[Event], linger: float = inf) -> list[Acquisition]:
    """Return what all clients acquired, in order of asking.

    Args:
        events: a history; each client's own events in their order, the clients' in any.
        linger: seconds after its promised end at which the store must surely have freed what nobody gave back.
    """
    of: dict[str, list[Event]] = {}
    dead: dict[str, float] = {}
    for event in events:
        if event.action is Action.DIE:
            dead[event.client] = min(dead.get(event.client, inf), event.at)
        else:
            of.setdefault(event.attempt, []).append(event)
    found = [_acquisition(sorted(own, key=attrgetter("at")), dead, linger) for own in of.values()]
    return _joined(sorted(found, key=attrgetter("asked", "answered")))


def _acquisition(events: list[Event], dead: dict[str, float], linger: float) -> Acquisition:
    first = events[0]
    answer = next((e for e in events if e.action is Action.ACQUIRE and e.phase not in (Phase.INVOKE, Phase.LOOK)), None)
    outcome, answered = Outcome.UNKNOWN, inf
    if answer is not None:
        answered = answer.at
        if answer.phase is Phase.RETURN:
            outcome = Outcome.WON
        elif answer.phase is Phase.FAIL:
            outcome = Outcome.REFUSED if answer.why == "refused" else Outcome.NOT_DONE
    parts: tuple[Part, ...] = ()
    if outcome is Outcome.WON and answer is not None:
        parts = _parts(events, answer, dead.get(first.client), linger)
    elif outcome is Outcome.UNKNOWN:
        seen = min(answered, dead.get(first.client, inf))
        over = inf if first.ttl is None else seen + first.ttl + linger
        parts = (Part(units=first.claim.units, earliest=first.at, latest=over),)
    return Acquisition(
        attempt=first.attempt,
        client=first.client,
        resource=first.resource,
        units=first.claim.units,
        size=first.claim.size,
        asked=first.at,
        answered=answered,
        outcome=outcome,
        fence=None if answer is None else answer.fence,
        parts=parts,
        why="" if answer is None else answer.why,
    )


def _parts(events: list[Event], answer: Event, died: float | None, linger: float) -> tuple[Part, ...]:
    """Return what was held and when each part of it ended: what was given back early is a part of its own."""
    end = _end(events, answer, died, linger)
    parts: list[Part] = []
    held = events[0].claim.units
    asked: Event | None = None
    for event in events:
        if event.action is not Action.LESSEN:
            continue
        if event.phase is Phase.INVOKE:
            asked = event
            continue
        if asked is None or event.phase is Phase.FAIL:
            continue
        rest = _difference(held, asked.claim.units)
        latest = event.at if event.phase is Phase.RETURN else end.latest
        parts.append(Part(units=rest, earliest=min(asked.at, end.earliest), latest=max(latest, asked.at)))
        held, asked = asked.claim.units, None
    return (*parts, replace(end, units=held))


def _difference(held: tuple[Unit, ...], kept: tuple[Unit, ...]) -> tuple[Unit, ...]:
    left = {unit.label: unit.weight for unit in kept}
    rest = (unit._replace(weight=unit.weight - left.get(unit.label, 0)) for unit in held)
    return tuple(unit for unit in rest if unit.weight > 0)


def _end(events: list[Event], answer: Event, died: float | None, linger: float) -> Part:
    """Return between when and when the hold ended."""
    relied, until, over = answer.at, answer.until, False
    if until is not None and until < relied:  # it was over when its holder heard of it
        relied, over = until, True
    began: float | None = None  # when the holder first gave it back
    freed = inf
    for event in events:
        if event.until is not None:
            until = event.until
        if event.phase is Phase.LOOK or (event.action is Action.RELEASE and event.phase is Phase.INVOKE):
            if event.valid is False:
                over = True
            elif not over and began is None:
                relied = max(relied, event.at)
        if event.action is Action.RELEASE:
            if event.phase is Phase.INVOKE:
                began = event.at if began is None else began
            elif event.phase is Phase.RETURN or (event.phase is Phase.FAIL and event.why == "lost"):
                freed = min(freed, event.at)
            elif event.phase is Phase.FAIL and event.why == "expired" and until is not None:
                relied = max(relied, min(until, event.at))  # its holder was told exactly at that moment
    lingers = inf if until is None else until + linger
    if died is not None and answer.ttl is not None:
        lingers = died + answer.ttl + linger
    if began is None and not over:  # nothing more is known of it: what the store promised stands
        earliest = max(relied, until or relied)
    else:
        earliest = relied
    return Part(units=(), earliest=earliest, latest=max(min(freed, lingers), earliest))


def _joined(found: list[Acquisition]) -> list[Acquisition]:
    """Join what one client acquired again while it held it: entering again has the same fence, and is no grant.

    The outermost stands for all; it ends when the last of them ended.
    """
    of: dict[tuple[str, str, int], int] = {}
    kept: list[Acquisition] = []
    for each in found:
        if each.outcome is Outcome.WON and each.fence is not None:
            key = (each.resource, each.client, each.fence)
            place = of.get(key)
            outer = None if place is None else kept[place]
            if place is not None and outer is not None and each.asked < outer.latest:
                last, mine = outer.parts[-1], each.parts[-1]
                last = replace(last, earliest=max(last.earliest, mine.earliest), latest=max(last.latest, mine.latest))
                kept[place] = replace(outer, parts=(*outer.parts[:-1], last))
                continue
            of[key] = len(kept)
        kept.append(each)
    return kept
