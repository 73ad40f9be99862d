"""Settings of policies, from code or from a document: one reader, so that all refuse alike.

Every policy keeps what can be changed while it runs in one frozen dataclass. A document gives the same names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

from backstay.errors import Misuse

__all__ = ["fraction", "from_mapping", "positive_int", "seconds"]

S = TypeVar("S")


def from_mapping(kind: type[S], given: Mapping[str, Any], what: str) -> S:
    """Return the settings that a document gives.

    Args:
        kind: a dataclass that checks its own values.
        given: names and values; names that are left out keep their defaults.
        what: for errors, such as `"retry of 'payments'"`.

    Raises:
        Misuse: a name is unknown or missing (the known ones are listed), or a value is wrong.
    """
    fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    known = {field.name: field for field in fields if field.init}
    for name in given:
        if name not in known:
            raise Misuse(f"{what} has no setting {name!r}; known: {', '.join(sorted(known))}")
    absent = dataclasses.MISSING
    missing = [
        name for name, field in known.items()
        if name not in given and field.default is absent and field.default_factory is absent
    ]  # fmt: skip
    if missing:
        raise Misuse(f"{what} needs {missing[0]!r}")
    try:
        return kind(**given)
    except Misuse as error:
        raise Misuse(f"{what}: {error}") from error


def seconds(value: Any, name: str, *, zero: bool = False) -> float:
    """Return a duration in seconds, from a number or a timedelta.

    Raises:
        Misuse: it is no duration, not finite, or not above zero (`zero`: or below it).
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Misuse(f"{name} must be seconds or a timedelta, got {value!r}")
    if value < 0 or (value == 0 and not zero):
        raise Misuse(f"{name} must be {'at least' if zero else 'above'} 0 s, got {value!r}")
    return float(value)


def positive_int(value: Any, name: str, *, least: int = 1) -> int:
    """Return a whole number of at least `least`, or raise Misuse."""
    if type(value) is not int or value < least:
        raise Misuse(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def fraction(value: Any, name: str) -> float:
    """Return a share above 0 and at most 1, or raise Misuse."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise Misuse(f"{name} must be above 0 and at most 1, got {value!r}")
    return float(value)
