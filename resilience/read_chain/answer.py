"""An answer that says where it is from and how old it is (DG-6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

__all__ = ["Answer", "Found", "Source"]

T = TypeVar("T")

Source: TypeAlias = Literal["origin", "distributed_cache", "local_cache", "static", "cdn"]
"""Which tier an answer is from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What a read brought.

    Attributes:
        value: the answer itself.
        source: the tier that it is from.
        age: seconds since the origin was asked for it, never too few; None for a static answer, whose age nobody
            knows.
        stale: it is older than its tier calls fresh, and was served because nothing better was to be had.
        ttl: seconds for which it stays fresh, below 0 for how long it has not been; None where nothing is kept.
        absent: it is a negative answer.
        joined: another read fetched it, and this one waited for that.
    """

    value: T
    source: Source
    age: float | None
    stale: bool = False
    ttl: float | None = None
    absent: bool = False
    joined: bool = False


class Found(NamedTuple):
    """An answer between tiers: `moment` is when the origin was asked for it, on the local monotonic clock."""

    value: Any
    moment: float
    source: Source
    fresh_until: float
    usable_until: float
    absent: bool
