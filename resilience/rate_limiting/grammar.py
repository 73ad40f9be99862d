"""Rates as text: the rule grammar of the `limits` package, and options behind semicolons.

    100/minute        7 per 60 second        1000/hour;burst=50

Where `limits` is installed its own table of granularities is used, so that one that an application has
registered there is known here as well. Without it the same six units are known.
"""

from __future__ import annotations

import re

from backstay.errors import Misuse

__all__ = ["read", "units"]

_RULE = re.compile(r"\s*([0-9]{1,15})\s*(?:/|per)\s*([0-9]{1,15})?\s*([a-z]+)\s*", re.IGNORECASE)
_OPTION = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]{1,15})\s*", re.IGNORECASE)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "month": 30 * 86_400, "year": 360 * 86_400}


def units() -> dict[str, int]:
    """Return the known units of time and their seconds (a year is 12 months of 30 days, as in `limits`)."""
    try:
        from limits.limits import GRANULARITIES
    except ImportError:
        return dict(_UNITS)
    return {item.GRANULARITY.name: item.GRANULARITY.seconds for item in GRANULARITIES.values()}


def read(text: str) -> tuple[int, int, int | None]:
    """Return (count, period in seconds, burst or None) of a rate in words.

    Raises:
        Misuse: the text is not of the grammar; unknown units and options are named beside the known ones.
    """
    rule, *options = text.split(";")
    match = _RULE.fullmatch(rule)
    if match is None:
        raise Misuse(f"rate {text!r}: {rule!r} is no rule; write '100/minute' or '7 per 60 second'")
    amount, multiple, unit = match.groups()
    known = units()
    name = unit.lower()
    seconds = known.get(name) or known.get(name.removesuffix("s"))
    if seconds is None:
        names = ", ".join(sorted(known, key=lambda each: known[each]))
        raise Misuse(f"rate {text!r}: unknown unit {unit!r}; known: {names}")
    if int(amount) == 0 or (multiple is not None and int(multiple) == 0):
        raise Misuse(f"rate {text!r}: the numbers must be at least 1; to refuse every call use a switch")
    burst: int | None = None
    for option in options:
        found = _OPTION.fullmatch(option)
        if found is None or found[1].lower() != "burst":
            raise Misuse(f"rate {text!r}: {option.strip()!r} is no option; known: burst=<tokens>, as in ';burst=200'")
        if burst is not None:
            raise Misuse(f"rate {text!r}: burst is given twice")
        burst = int(found[2])
    return int(amount), int(multiple or 1) * seconds, burst
