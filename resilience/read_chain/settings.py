"""What a read chain may be told: its tiers, and what holds for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from backstay.errors import Misuse, Rejected, Unavailable

from ..circuit_breaker import BreakerSettings, CircuitBreaker
from ..fallback import FallbackSettings
from ..policy import from_mapping, positive_int, seconds
from .codec import JSON, Codec

__all__ = ["LocalTier", "ReadSettings", "RedisTier", "StaticTier", "tier_of"]

logger = logging.getLogger("backstay.resilience")

_MOST_BYTES = 512 * 1024 * 1024  # what Redis takes in one value


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTier:
    """The cache in the process.

    Attributes:
        max_stale: seconds after which an answer is not served at all; no default, because only the caller knows
            how old a lie may be.
        fresh: seconds for which an answer is served without asking further up; 0 keeps it for bad times only.
        max_entries: how many answers are kept; beyond it the one that has been there longest goes.
        max_absent: how many negative answers are kept, apart from the others: asking for what is not there pushes
            nothing out that is.
    """

    max_stale: float
    fresh: float = 0.0
    max_entries: int = 10_000
    max_absent: int = 1_000

    def __post_init__(self) -> None:
        _check_ages(self, "local")
        positive_int(self.max_entries, "local: max_entries")
        positive_int(self.max_absent, "local: max_absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTier:
    """The distributed cache.

    Attributes:
        store: a URL such as `redis://`, `redis+sentinel://`, `redis+cluster://`, or a client of either make, whose
            settings are copied.
        max_stale: as for `LocalTier`; Redis forgets answers at this age.
        fresh: as for `LocalTier`.
        budget: seconds that one exchange may take, connecting included; less where the deadline is near.
        namespace: keeps applications on one server apart.
        codec: how answers become bytes.
        max_bytes: longer answers are not stored.
        refill_lease: seconds for which the process that fetches an answer anew keeps the others from doing so;
            they serve the old one meanwhile.
        breaker: skips the server while it does not answer; by default one that opens after three failures in a row.
    """

    store: object = field(repr=False)
    max_stale: float
    fresh: float = 0.0
    budget: float = 0.1
    namespace: str = "default"
    codec: Codec = JSON
    max_bytes: int = 1024 * 1024
    refill_lease: float = 5.0
    breaker: CircuitBreaker | BreakerSettings | Mapping[str, Any] = field(
        default_factory=lambda: BreakerSettings(consecutive=3, open_for=1.0, open_growth=2.0, open_at_most=30.0)
    )

    def __post_init__(self) -> None:
        _check_ages(self, "redis")
        object.__setattr__(self, "budget", seconds(self.budget, "redis: budget"))
        object.__setattr__(self, "refill_lease", seconds(self.refill_lease, "redis: refill_lease"))
        positive_int(self.max_bytes, "redis: max_bytes")
        if self.max_bytes > _MOST_BYTES:
            raise Misuse(f"redis: max_bytes must be at most {_MOST_BYTES}, got {self.max_bytes}")
        codec: Any = self.codec
        if not (callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))):
            raise Misuse(f"redis: codec must have encode(value) -> bytes and decode(bytes) -> value, got {codec!r}")
        if not isinstance(self.breaker, CircuitBreaker):
            object.__setattr__(self, "breaker", BreakerSettings.of(self.breaker))


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticTier:
    """What is said when nobody else answers.

    Attributes:
        answer: a value; or a function that takes the arguments of the read, and `refusal=` if it has such a
            parameter. An `async def` only for an `async def`.
        source: what the answer is called: `static`, or `cdn` where it leads to a copy elsewhere.
    """

    answer: Any
    source: Literal["static", "cdn"] = "static"

    def __post_init__(self) -> None:
        if self.source not in ("static", "cdn"):
            raise Misuse(f"static: source must be 'static' or 'cdn', got {self.source!r}")


def _is_none(value: Any) -> bool:
    return value is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """What holds for all tiers.

    Attributes:
        on: the origin's errors that lead down the chain: classes, or names as in `FallbackSettings`. Since reads
            change nothing, an unknown outcome (a timeout) is among them. Others are the caller's.
        budget: seconds that one read may take in all; a nearer deadline outside stays in force.
        absent: tells negative answers, such as None for a product that there is none of.
        absent_for: seconds after which a negative answer is not served any more, whatever the tiers say.
        jitter: local answers are fetched anew earlier by a random share of `fresh` up to this: what came together
            does not end together.
        refills: after a failure of the origin, so many reads at once try it again while there is an old answer to
            serve; each success allows one more.
    """

    on: tuple[type[Exception] | str, ...] | type[Exception] | str = (
        Rejected,
        Unavailable,
        ConnectionError,
        TimeoutError,
    )
    budget: float | None = None
    absent: Callable[[Any], bool] = _is_none
    absent_for: float = 30.0
    jitter: float = 0.1
    refills: int = 4
    covering: FallbackSettings = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.budget is not None:
            object.__setattr__(self, "budget", seconds(self.budget, "budget"))
        object.__setattr__(self, "absent_for", seconds(self.absent_for, "absent_for", zero=True))
        given: Any = self.absent
        if not callable(given):
            raise Misuse(f"absent must be a function of the answer, got {given!r}")
        share: Any = self.jitter
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise Misuse(f"jitter must be from 0 to 1, got {share!r}")
        positive_int(self.refills, "refills")
        errors: Any = self.on
        object.__setattr__(self, "covering", FallbackSettings(answer=None, on=errors, read_only=True))

    def is_absent(self, value: Any) -> bool:
        """Return whether an answer is a negative one; a predicate that raises costs nobody the answer."""
        try:
            return bool(self.absent(value))
        except Exception:
            logger.exception("%r could not judge an answer", self.absent)
            return False


def tier_of(kind: type[Any], value: Any, what: str) -> Any:
    """Return a tier's settings as they are, or from a mapping.

    Raises:
        Misuse: it is neither, or a setting is wrong.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        return from_mapping(kind, cast("Mapping[str, Any]", value), what)
    names = ", ".join(f.name for f in fields(kind))
    raise Misuse(f"{what} must be {kind.__name__} or a mapping of {names}; got {value!r:.100}")


def _check_ages(tier: LocalTier | RedisTier, what: str) -> None:
    object.__setattr__(tier, "max_stale", seconds(tier.max_stale, f"{what}: max_stale"))
    object.__setattr__(tier, "fresh", seconds(tier.fresh, f"{what}: fresh", zero=True))
    if tier.fresh > tier.max_stale:
        raise Misuse(f"{what}: fresh must not exceed max_stale, got {tier.fresh} > {tier.max_stale}")
