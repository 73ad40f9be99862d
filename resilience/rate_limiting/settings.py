"""What a rate limit is told; what of it can change while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from backstay.errors import Misuse

from ..policy import from_mapping, seconds
from .carry import Carry, carry_of
from .connect import Algorithm
from .failure import FailureMode, failure_mode
from .rate import Rate

__all__ = ["RateLimitOptions", "RateLimitSettings"]


class RateLimitOptions(TypedDict, total=False):
    """The settings as keywords."""

    rate: object
    cost: int
    wait: float
    carry: Carry
    key: str | Callable[..., str] | None
    store: object
    namespace: str
    on_store_failure: FailureMode
    local_share: float
    budget: float
    algorithm: Algorithm
    lease: int | None
    announce: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitSettings:
    """The settings of a rate limit. The first four can change while it runs.

    Args:
        rate: `"100/second;burst=200"`, a `Rate`, or an item of the `limits` package.
        cost: tokens a call.
        wait: seconds that a call may wait for its tokens; 0 refuses at once.
        carry: what becomes of tokens when the rate changes: `proportional`, `absolute` or `reset`.
        key: whose bucket a call charges: a template of the function's parameters, or a function of the call's
            arguments. One bucket for all where it is left out.
        store: where buckets are kept; see `RateLimiter.connect`, as for those after it.
        namespace: see there.
        on_store_failure: see there.
        local_share: see there.
        budget: see there.
        algorithm: see there. A sliding window can neither wait nor change its rate while it runs.
        lease: see there. Nor can a limit that leases.
        announce: see there.

    Raises:
        Misuse: one of them is wrong, or the cost can never be granted.
    """

    rate: Any
    cost: int = 1
    wait: float = 0.0
    carry: Carry = "proportional"
    key: str | Callable[..., str] | None = None
    store: object = "memory://"
    namespace: str = "default"
    on_store_failure: FailureMode = "open"
    local_share: float = 1.0
    budget: float = 0.05
    algorithm: Algorithm = "token-bucket"
    lease: int | None = None
    announce: bool = False

    def __post_init__(self) -> None:
        rate = Rate.of(self.rate)
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "wait", seconds(self.wait, "wait", zero=True))
        object.__setattr__(self, "carry", carry_of(self.carry))
        failure_mode(self.on_store_failure, self.local_share)
        given: Any = self.cost
        if type(given) is not int or not 1 <= given <= rate.capacity:
            raise Misuse(
                f"cost must be a whole number from 1 to the burst of {rate.capacity}, got {given!r}; "
                "a larger cost can never be granted: raise the burst"
            )
        key: Any = self.key
        if key is not None and not isinstance(key, str) and not callable(key):
            raise Misuse(f"key must be a template, a function or None, got {key!r:.80}")
        self._check_choices(rate)

    def _check_choices(self, rate: Rate) -> None:
        algorithm: Any = self.algorithm
        if algorithm not in ("token-bucket", "sliding-window"):
            raise Misuse(f"algorithm must be 'token-bucket' or 'sliding-window', got {algorithm!r:.80}")
        lease: Any = self.lease
        if lease is not None and (type(lease) is not int or not 2 <= lease <= rate.capacity):
            raise Misuse(f"lease must be a whole number from 2 to the burst of {rate.capacity}, got {lease!r:.80}")
        announce: Any = self.announce
        if not isinstance(announce, bool):
            raise Misuse(f"announce must be true or false, got {announce!r:.80}")
        if self.wait and self.steady is not None:
            raise Misuse(f"{self.steady} cannot wait for tokens; leave wait out, or use a token bucket without a lease")

    @classmethod
    def of(cls, value: object) -> RateLimitSettings:
        """Return settings from settings, a mapping, or a rate alone.

        Raises:
            Misuse: it is none of these, or a setting is wrong.
        """
        if isinstance(value, RateLimitSettings):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "limit")
        return cls(rate=value)

    @property
    def steady(self) -> str | None:
        """What keeps the rate from changing while the limit runs, in words; None where nothing does."""
        if self.algorithm != "token-bucket":
            return "a sliding window"
        return None if self.lease is None else "a limit that leases its tokens"

    @property
    def fixed(self) -> tuple[object, ...]:
        """What cannot change while the limit runs."""
        store = self.key, self.store, self.namespace, self.on_store_failure, self.local_share, self.budget
        return *store, self.algorithm, self.lease, self.announce
