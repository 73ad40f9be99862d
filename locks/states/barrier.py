"""A cyclic barrier as a value: who has arrived, who has still to leave, and what became of earlier rounds.

A round fills until all parties have arrived; with the last of them it has passed. Its parties then leave, and the
next round fills only when all of them have left, so that nobody is counted in a round while another is still on its
way out of the one before (L5). A round breaks when one of those who arrived goes away, in whatever way, before it
passed; a broken barrier stays so until it is reset.

Who is alive is told by beats: numbers that those who wait raise now and then. Whoever looks on and sees a number stand
still for too long, by its own clock, takes its owner for dead. So no clock of a store decides it, which could be set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

from backstay.errors import Misuse
from backstay.locks.owners import readable
from backstay.locks.register import Next

__all__ = ["PARTIES", "Arrival", "BarrierForm", "BarrierState", "Pulse", "Verdict", "alive_for", "arrive", "beat",
           "bury", "desert", "leave", "reset", "verdict"]  # fmt: skip

PARTIES = 256
"""Parties that a barrier has at most: all of them must find room in one document."""

HISTORY = 16
"""Rounds whose end is remembered for those who come late to hear of it."""

ALIVE = 5.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierState:
    """Where a barrier stands.

    Args:
        parties: how many make a round.
        round: its number.
        arrived: those who wait in this round, in order, with their beats.
        leaving: those of the round before who have not left yet.
        broken: why it is broken; empty where it is not.
        past: what became of earlier rounds; empty text where they passed.
    """

    parties: int
    round: int = 0
    arrived: Mapping[str, int] = field(default_factory=dict[str, int])
    leaving: Mapping[str, int] = field(default_factory=dict[str, int])
    broken: str = ""
    past: tuple[tuple[int, str], ...] = ()


class BarrierForm:
    """A barrier as JSON."""

    def load(self, body: Mapping[str, Any]) -> BarrierState:
        return BarrierState(
            parties=body["parties"],
            round=body["round"],
            arrived=body["arrived"],
            leaving=body["leaving"],
            broken=body["broken"],
            past=tuple((number, end) for number, end in body["past"]),
        )

    def dump(self, state: BarrierState) -> dict[str, Any]:
        return {
            "parties": state.parties,
            "round": state.round,
            "arrived": dict(state.arrived),
            "leaving": dict(state.leaving),
            "broken": state.broken,
            "past": state.past,
        }


class Arrival(NamedTuple):
    """How an arrival ended."""

    round: int
    place: int
    """Its place in the order of arrival; -1 where it was not counted."""
    broken: str = ""
    """Why not, where the barrier is broken; empty where others still have to leave."""


class Verdict(Enum):
    """What one who waits is told."""

    WAIT = "wait"
    PASSED = "passed"
    BROKEN = "broken"
    FORGOTTEN = "forgotten"
    """Its round ended so long ago that nobody knows how."""


def alive_for(parties: int) -> float:
    """Return the seconds after which a beat that stands still is a dead one; many parties beat more slowly."""
    return max(ALIVE, parties * 0.1)


def arrive(state: BarrierState | None, parties: int, name: str, mark: str) -> Next[BarrierState, Arrival]:
    """Be counted in the round that fills, unless the barrier is broken or others still have to leave."""
    now = state or BarrierState(parties=parties)
    if now.parties != parties:
        raise Misuse(
            f"barrier {name!r} is for {now.parties} parties at the store, and this caller says {parties}; "
            f"say {now.parties}, or change it for everybody with reset({parties})"
        )
    if mark in now.arrived:
        return Next(Arrival(now.round, list(now.arrived).index(mark)))
    if mark in now.leaving:
        return Next(Arrival(now.round - 1, list(now.leaving).index(mark)))
    if now.broken or now.leaving:
        return Next(Arrival(now.round, -1, now.broken))
    arrived, here = {**now.arrived, mark: 0}, Arrival(now.round, len(now.arrived))
    if len(arrived) < parties:
        return Next(here, replace(now, arrived=arrived))
    leaving = arrived if parties > 1 else {}  # one who is alone has left as it arrives
    return Next(here, replace(_ended(now, ""), leaving=leaving))


def verdict(state: BarrierState | None, number: int, mark: str) -> tuple[Verdict, str]:
    """Return what one who arrived in round `number` is told now, and why."""
    if state is None:
        return Verdict.BROKEN, "it was deleted"
    if state.round == number:
        if state.broken:
            return Verdict.BROKEN, state.broken
        return (Verdict.WAIT, "") if mark in state.arrived else (Verdict.BROKEN, "it was made anew")
    for earlier, end in state.past:
        if earlier == number:
            return (Verdict.BROKEN, end) if end else (Verdict.PASSED, "")
    return Verdict.FORGOTTEN, ""


def beat(state: BarrierState | None, mark: str) -> Next[BarrierState, None]:
    """Show that one who waits is alive."""
    if state is None or mark not in state.arrived:
        return Next(None)
    return Next(None, replace(state, arrived={**state.arrived, mark: state.arrived[mark] + 1}))


def leave(state: BarrierState | None, mark: str) -> Next[BarrierState, None]:
    """Go out of a round that passed."""
    if state is None or mark not in state.leaving:
        return Next(None)
    return Next(None, replace(state, leaving={each: n for each, n in state.leaving.items() if each != mark}))


def desert(state: BarrierState | None, number: int, mark: str, why: str) -> Next[BarrierState, tuple[Verdict, str]]:
    """Go away before the round has passed, which breaks it; the answer tells where it had passed after all."""
    told = verdict(state, number, mark)
    if state is None or told[0] is not Verdict.WAIT:
        return Next(told) if state is None else Next(told, leave(state, mark).state)
    return Next(told, _broken(state, why))


def withdraw(state: BarrierState | None, mark: str, why: str) -> Next[BarrierState, None]:
    """Go away without knowing whether one had arrived, which breaks the round if so."""
    if state is not None and mark in state.arrived:
        return Next(None, _broken(state, why))
    return Next(None, leave(state, mark).state)


def bury(state: BarrierState | None, dead: Collection[str], seconds: float) -> Next[BarrierState, None]:
    """Take note of those who were not heard of for too long."""
    if state is None:
        return Next(None)
    leaving = {each: n for each, n in state.leaving.items() if each not in dead}
    missing = [each for each in state.arrived if each in dead]
    if missing:
        why = f"{readable(missing[0])} was not heard of for {seconds:g} s"
        return Next(None, replace(_broken(state, why), leaving=leaving))
    return Next(None, None if len(leaving) == len(state.leaving) else replace(state, leaving=leaving))


def reset(state: BarrierState | None, parties: int) -> Next[BarrierState, None]:
    """Begin anew: those who wait are told that it broke."""
    if state is None:
        return Next(None, BarrierState(parties=parties))
    if not state.broken and not state.arrived:
        return Next(None, None if state.parties == parties else replace(state, parties=parties))
    return Next(None, replace(_ended(state, state.broken or "it was reset"), parties=parties))


def _broken(state: BarrierState, why: str) -> BarrierState:
    return replace(state, broken=why, arrived={})


def _ended(state: BarrierState, end: str) -> BarrierState:
    past = (*state.past, (state.round, end))[-HISTORY:]
    return replace(state, round=state.round + 1, arrived={}, broken="", past=past)


class Pulse:
    """What one onlooker has seen of the others' beats.

    Args:
        alive: seconds for which a beat may stand still.
    """

    def __init__(self, alive: float) -> None:
        self._alive = alive
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def dead(self, state: BarrierState, me: str, now: float) -> set[str]:
        """Look on, and return those whose beat has stood still for too long.

        An onlooker that has not looked for a while, since it was stopped or the store did not answer, begins anew:
        perhaps nobody could beat.
        """
        if now - self._looked > self._alive / 2:
            self._seen.clear()
        self._looked = now
        beats = {**state.arrived, **state.leaving}
        self._seen = {
            mark: seen if (seen := self._seen.get(mark)) is not None and seen[0] == number else (number, now)
            for mark, number in beats.items()
        }
        return {mark for mark, (_, since) in self._seen.items() if now - since > self._alive and mark != me}
