"""Steps over buckets in memory that are not on the hot path: several at once, in debt, given back.

Several locks are taken in the order of their numbers, so that no two steps wait for each other, and the hot path
holds one only.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Taken
from ..decision import NO_ROOM
from .memory import LOOKS_FOR_ROOM, MemoryBuckets, One, Part, evict, note

__all__ = ["Step", "give", "take_all"]

Step = tuple[MemoryBuckets, str, int]
"""Whose bucket of which key, and how many tokens."""


def take_all(steps: Sequence[Step], ahead: float) -> tuple[bool, list[Taken]]:
    """Take tokens from all buckets or from none; return whether they were taken, and what each bucket said.

    Args:
        steps: no bucket twice.
        ahead: seconds that the tokens may be still to come.
    """
    places = [buckets.place(key) for buckets, key, _ in steps]
    moments = [buckets.now_ns() for buckets, _, _ in steps]
    for place, now, (_, key, _) in zip(places, moments, steps, strict=True):
        if isinstance(place, Part) and not place.room and key not in place.tats:
            evict(place, LOOKS_FOR_ROOM, now * place.terms[0])
    locks = [place.lock for place in sorted({place.number: place for place in places}.values(), key=_number)]
    taken: list[tuple[int, int]] = []
    fresh: list[tuple[Part, str, int]] = []
    for lock in locks:
        lock.acquire()
    try:
        answers: list[Taken] = []
        for place, now, (buckets, key, cost) in zip(places, moments, steps, strict=True):
            ticks, token, window, told = place.terms
            rate, scale = told or (buckets.rate, buckets.scale)
            tat = _tat(place, key)
            owed = 0 if tat is None else max(0, tat - now * ticks)
            balance = owed + cost * token
            taken.append((now * ticks + balance, now * ticks))
            missing = balance - window - round(ahead * 1_000_000_000) * ticks
            if missing > 0:
                balance = -missing
            elif tat is None and isinstance(place, Part) and not place.room:
                balance = NO_ROOM
            due = now - (window - owed - cost * token) // ticks
            answers.append(Taken(balance=balance, rate=rate, scale=scale, due=due, second=1_000_000_000))
        allowed = all(answer.balance > 0 for answer in answers)
        if allowed:
            for place, (tat, now_ticks), (_, key, _) in zip(places, taken, steps, strict=True):
                if _put(place, key, tat) and isinstance(place, Part):
                    fresh.append((place, key, now_ticks))
    finally:
        for lock in reversed(locks):
            lock.release()
    for part, key, now in fresh:
        note(part, key, now)
    return allowed, answers


def give(buckets: MemoryBuckets, key: str, cost: int, until: int) -> bool:
    """Give tokens back before the nanosecond `until`, or at any time where that is 0 (see `backend.Reserving`)."""
    now = buckets.now_ns()
    if until and now >= until:
        return False
    place = buckets.place(key)
    with place.lock:
        ticks, token, _, _ = place.terms
        tat = _tat(place, key)
        if tat is None or tat <= now * ticks:
            return False
        _put(place, key, max(now * ticks, tat - cost * token))
    return True


def _number(place: One | Part) -> int:
    return place.number


def _tat(place: One | Part, key: str) -> int | None:
    return place.tats.get(key) if isinstance(place, Part) else place.tat


def _put(place: One | Part, key: str, tat: int) -> bool:
    """Note when the bucket is full; return whether its key is new."""
    if isinstance(place, One):
        place.tat = tat
        return False
    new = key not in place.tats
    if new:
        place.room -= 1
    place.tats[key] = tat
    return new
