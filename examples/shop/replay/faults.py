"""What goes wrong, decided by the seed: the n-th call of a basket over an edge meets the same fault in both shops."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["Edge", "Fault", "Faults", "Kill", "Kind"]

Edge = Literal["client-orders", "orders-stock", "orders-payments"]


class Kind(StrEnum):
    """Things that happen to one HTTP call on its way."""

    REPLY_CUT = "the service has answered, the connection breaks before the caller reads the reply"
    REPLY_SWALLOWED = "the service has answered, the caller hears nothing until its timeout"
    DUPLICATED = "the service gets the request twice at the same time"
    REPEATED_LATE = "the service gets the request again, later"
    DELAYED = "the request waits before it is delivered"
    DELIVERED_LATE = "the request is delivered after the caller has given up on it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; `seconds` is the delay where the kind has one."""

    kind: Kind
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL `service` `seconds` after the first request that is sent to it once `baskets` have been answered."""

    service: Literal["orders", "payments"]
    baskets: int
    seconds: float


RATES: dict[Kind, tuple[float, float, float]] = {
    # kind: probability of each call, shortest and longest delay in seconds
    Kind.REPLY_CUT: (0.015, 0, 0),
    Kind.REPLY_SWALLOWED: (0.005, 0, 0),
    Kind.DUPLICATED: (0.02, 0, 0),
    Kind.REPEATED_LATE: (0.01, 0.2, 2.0),
    Kind.DELAYED: (0.03, 0.02, 0.3),
    Kind.DELIVERED_LATE: (0.005, 2.2, 3.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults of a whole replay."""

    seed: int
    baskets: int

    def of_call(self, edge: Edge, basket_id: int, nth: int) -> Fault | None:
        """What happens to the n-th call (from 1) that concerns this basket on this edge."""
        dice = random.Random(f"{self.seed}:{edge}:{basket_id}:{nth}")
        drawn = dice.random()
        for kind, (rate, shortest, longest) in RATES.items():
            if drawn < rate:
                return Fault(kind=kind, seconds=dice.uniform(shortest, longest))
            drawn -= rate
        return None

    def kills(self) -> list[Kill]:
        """Payments and orders die in turn, spread over the replay: four times each in 2,000 baskets."""
        dice = random.Random(f"{self.seed}:kills")
        times = min(max(2, 2 * (self.baskets // 500)), 100)
        step = self.baskets / (times + 1)
        planned = list[Kill]()
        for n in range(times):
            at = round(step * (n + 1) + dice.uniform(-step / 4, step / 4))
            if n % 2 == 0:
                planned.append(Kill(service="payments", baskets=at, seconds=dice.uniform(0.001, 0.02)))
            else:
                planned.append(Kill(service="orders", baskets=at, seconds=dice.uniform(0.01, 0.15)))
        return planned
