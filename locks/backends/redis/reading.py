"""What the scripts answer, as values of the port; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Any

from backstay.errors import BackstayError
from backstay.locks.backend import Busy, Freed, Holding, Kept, Queued, Survey
from backstay.locks.claims import MUTEX, Unit

__all__ = ["busy", "freed", "kept", "milliseconds", "survey_of_lock", "survey_of_shared", "units_of", "units_text"]


def milliseconds(ttl: float) -> int:
    """Return a time-to-live in the server's unit: rounded up (C11), plus one for the part of its clock it cuts off."""
    return ceil(ttl * 1000.0) + 1


@lru_cache(maxsize=1024)
def units_text(units: tuple[Unit, ...]) -> str:
    """Write units as the scripts read them: `label,weight,capacity`, with semicolons between them."""
    return ";".join(f"{unit.label},{unit.weight},{unit.capacity}" for unit in units)


def units_of(text: str) -> tuple[Unit, ...]:
    """Read what `units_text` wrote."""
    parts = (each.split(",") for each in text.split(";"))
    return tuple(Unit(label, int(weight), int(capacity)) for label, weight, capacity in parts)


def busy(answer: Any) -> Busy:
    """Read what a script that takes answers when the claim was not granted."""
    try:
        left, moment, waiters, owner = answer
    except ValueError:  # b"withdrawn": nobody waits for this answer any more
        return Busy(None, 0.0, 0, "")
    holder = owner.decode(errors="replace").partition("|")[0] if isinstance(owner, bytes) else ""
    return Busy(None if left == -1 else max(0.0, left / 1000.0), int(moment) / 1e6, waiters, holder)


def freed(answer: Any, again: bool) -> Freed:
    """Read what a script that releases answers; `again` says that an earlier copy of it may have run (R4)."""
    if answer == 1:
        return Freed.FREED
    return Freed.PERHAPS_EARLIER if again else Freed.NOT_OWNER


def kept(answer: Any) -> Kept:
    """Read what a script that renews answers."""
    if isinstance(answer, BackstayError):
        return Kept.FAILED
    return {1: Kept.RENEWED, 0: Kept.NOT_OWNER, -1: Kept.NO_EXPIRY}[answer]


def survey_of_lock(answer: Sequence[Any]) -> Survey:
    """Read what `inspect.lua` answers."""
    moment, owner, left, queue, waiters = answer
    now, holders = int(moment), list[Holding]()
    if owner:
        token, _, fence = _text(owner).partition("|")
        drawn = int(fence) if fence.isdigit() else now  # another program's key has none
        remaining = None if left == -1 else left / 1000.0
        holders.append(Holding(token, MUTEX.units, drawn if fence else 0, _age(drawn, now), remaining))
    alive = {token: MUTEX.units for token, entry in _pairs(waiters) if int(entry.partition("|")[0]) >= now}
    return Survey(0, holders, [Queued(token, alive[token]) for token in map(_text, queue) if token in alive])


def survey_of_shared(answer: Sequence[Any]) -> Survey:
    """Read what `inspect_shared.lua` answers."""
    moment, size, queue, waiters, ends, holders = answer
    now, held, waiting = int(moment), dict(_pairs(holders)), dict[str, tuple[Unit, ...]]()
    found: list[Holding] = []
    for token, until in _pairs(ends):
        fence, _, units = held.get(token, "").partition("|")
        left = float(until) - now
        if units and left > 0:
            found.append(Holding(token, units_of(units), int(fence), _age(int(fence), now), left / 1e6))
    for token, entry in _pairs(waiters):
        alive, _, units, _ = entry.split("|", 3)
        if int(alive) >= now:
            waiting[token] = units_of(units)
    found.sort(key=lambda each: each.fence)
    return Survey(int(size), found, [Queued(token, waiting[token]) for token in map(_text, queue) if token in waiting])


def _age(fence: int, now: int) -> float:
    """Return the seconds since a grant: its fence is the server's time then, or a little more."""
    return max(0.0, (now - fence) / 1e6)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    texts = [_text(each) for each in flat]
    return list(zip(texts[::2], texts[1::2], strict=True))
