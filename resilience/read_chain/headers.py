"""Source and age of answers as header fields of HTTP: `Age` (RFC 9111) and `Cache-Status` (RFC 9211).

`Age` stands only where something kept was served, rounded up: an answer never looks younger than it is. A stale
answer is a hit with a time to live below zero, as RFC 9211 has it. `Warning: 110` said that before; RFC 9111 has
done away with it, so it is for clients that still look at it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from .answer import Answer
from .collected import Collected

__all__ = ["added", "said"]

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_LONGEST = 2**31 - 1
_STALE = '110 - "Response is Stale"'


def said(collected: Collected, *, warning: bool = False) -> dict[str, str]:
    """Return the header fields for an HTTP answer that was made of these reads; empty where there were none.

    Args:
        collected: what `with reads() as collected` brought.
        warning: say `Warning: 110` as well where something was stale.
    """
    if not collected.by_chain:
        return {}
    fields = {"Cache-Status": ", ".join(_member(name, each) for name, each in collected.by_chain.items())}
    if collected.age is not None:
        fields["Age"] = str(min(math.ceil(collected.age), _LONGEST))
    if warning and collected.stale:
        fields["Warning"] = _STALE
    return fields


def added(there: Iterable[tuple[str, str]], fields: dict[str, str]) -> list[tuple[str, str]]:
    """Return header fields with ours: `Cache-Status` behind what is there, the greater `Age`, one of each."""
    merged = dict(fields)
    others: list[tuple[str, str]] = []
    for name, value in there:
        ours = next((each for each in merged if each.lower() == name.lower()), None)
        if ours is not None and ours != "Age":
            merged[ours] = f"{value}, {merged[ours]}"
        elif ours == "Age":
            merged[ours] = str(max(int(merged[ours]), int(value) if value.isascii() and value.isdigit() else 0))
        else:
            others.append((name, value))
    return [*others, *merged.items()]


def _member(name: str, answer: Answer[Any]) -> str:
    parts = [name if _TOKEN.fullmatch(name) else _text(name)]
    if answer.source == "origin":
        parts.append("fwd=miss")
        if answer.joined:
            parts.append("collapsed")
    else:
        parts.append("hit")
    if answer.ttl is not None and (answer.source != "origin" or answer.ttl > 0):
        parts.append(f"ttl={max(-_LONGEST, min(math.floor(answer.ttl), _LONGEST))}")
    parts.append(f"detail={answer.source}")
    return "; ".join(parts)


def _text(name: str) -> str:
    """Return a string of structured fields, which is ASCII without controls."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in name)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
