"""Names of metrics and attributes, and the limit on how many series a metric may have.

Callers write `counter("rate_limiter.requests", "{request}", result="limited")`; exported are the metric
`backstay.rate_limiter.requests` and the attribute `backstay.result` (OT-5: the library's own prefix).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeAlias

from backstay.errors import Misuse

__all__ = ["MOST_NAMES", "MOST_SERIES", "OTHER", "AttributeValue", "Attributes", "Limit", "attribute_key", "full_name"]

AttributeValue: TypeAlias = str | bool | int | float
Attributes: TypeAlias = tuple[tuple[str, AttributeValue], ...]
"""Attributes as exported, sorted by key, so that they can be a key themselves."""

MOST_NAMES = 200
"""How many different values one attribute of one metric may take (OT-4)."""
MOST_SERIES = 2000
"""How many series one metric may have; the SDK drops what is above it, so that we never get there."""
OTHER = "_other"
"""The value that stands for all values beyond the limit."""

_PREFIX = "backstay."
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_FOREIGN_KEYS = {"error_type": "error.type"}  # semantic conventions' own attributes keep their names
_DOTTED_KEYS = {"policy_name": "backstay.policy.name", "policy_type": "backstay.policy.type"}


def full_name(name: str) -> str:
    """Return `name` with the library's prefix, which the caller may leave out.

    Raises:
        Misuse: the name is not lowercase words in dots and underscores, or ends in `total` (OT-5).
    """
    if not _NAME.fullmatch(name):
        raise Misuse(f"{name!r} is no name for a metric or span; write lowercase words such as 'rate_limiter.requests'")
    if name.rpartition(".")[2] == "total" or name.endswith("_total"):
        raise Misuse(f"metric {name!r} must not end in 'total'; exporters add that where their format wants it")
    return name if name.startswith(_PREFIX) else _PREFIX + name


def attribute_key(keyword: str) -> str:
    """Return the exported key of an attribute given as a keyword; `from_` stands for `from`."""
    known = _FOREIGN_KEYS.get(keyword) or _DOTTED_KEYS.get(keyword)
    return known or _PREFIX + keyword.rstrip("_")


class Limit:
    """What keeps one metric's series bounded: at most so many values an attribute, so many series in all."""

    __slots__ = ("_names", "_series", "_values")

    def __init__(self, names: int = MOST_NAMES, series: int = MOST_SERIES) -> None:
        self._names = names
        self._series = series
        self._values: dict[str, set[AttributeValue]] = {}

    def admit(self, attributes: Mapping[str, AttributeValue], existing: Collection[Attributes]) -> Attributes:
        """Return the series key for `attributes`, given the keys that the metric has now."""
        key = tuple(sorted((attribute_key(word), self._admit(word, value)) for word, value in attributes.items()))
        if key in existing or len(existing) < self._series:
            return key
        return tuple((word, OTHER) for word, _ in key)

    def _admit(self, key: str, value: AttributeValue) -> AttributeValue:
        seen = self._values.setdefault(key, set())
        if value in seen:
            return value
        if len(seen) >= self._names:
            return OTHER
        seen.add(value)
        return value
