"""What a limiter does when its store gives no answer (RL-8)."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from backstay.errors import Misuse, Unavailable

from .backend import StoreFailed
from .backends.memory import MemoryBuckets
from .carry import Carry
from .rate import Rate
from .telemetry import Requests

__all__ = ["FailureMode", "Outage", "failure_mode"]

FailureMode: TypeAlias = Literal["open", "closed", "local"]
"""`open` lets calls through, `closed` refuses them, `local` applies a share of the rate in this process."""


def failure_mode(mode: object, share: Any) -> None:
    """Check a mode and the local share.

    Raises:
        Misuse: one of them is none.
    """
    if mode not in ("open", "closed", "local"):
        raise Misuse(f"on_store_failure must be 'open', 'closed' or 'local', got {mode!r}")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise Misuse(f"local_share must be above 0 and at most 1, got {share!r}")


class Outage:
    """The answers of one limiter while its store gives none.

    Args:
        name: the limiter's.
        rate: its rate.
        mode: see `FailureMode`.
        share: of the rate and the burst, for `local`: 1/N for N processes keeps the sum at the rate.
        requests: the limiter's counters.
    """

    def __init__(self, name: str, rate: Rate, mode: FailureMode, share: float, requests: Requests) -> None:
        failure_mode(mode, share)
        self._name = name
        self._mode = mode
        self._share = share
        self._requests = requests
        self.local = MemoryBuckets(rate.share(share)) if mode == "local" else None

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Apply a share of another rate."""
        if self.local is not None:
            self.local.reconfigure(rate.share(self._share), carry)

    def answer(self, key: str, cost: int, failure: StoreFailed) -> tuple[int, Literal["open", "local"]]:
        """Return the balance to go on with, and how it came about.

        Raises:
            Unavailable: the mode is `closed`. Nothing was called, and nothing will be charged.
        """
        if self.local is not None:
            self._requests.store_error_local.n += 1
            # A cost that the share could never hold is charged as much as it holds.
            return self.local.charge(key, min(cost, self.local.rate.capacity)), "local"
        if self._mode == "open":
            self._requests.store_error_open.n += 1
            return 1, "open"
        self._requests.store_error_closed.n += 1
        raise Unavailable(
            f"rate limiter {self._name!r} got no answer from its store ({failure}) and refuses meanwhile, "
            "because on_store_failure='closed'; nothing was called"
        ) from failure
