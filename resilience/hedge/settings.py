"""When a second attempt is started, and how many may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, positive_int, seconds

__all__ = ["HedgeSettings"]

_CURE = "write hedge={'after': 0.05, 'idempotent': True}, or percentile in place of after"


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeSettings:
    """Settings of a hedge.

    Attributes:
        idempotent: must be True. Two attempts run side by side and one is stopped half way: only what changes
            nothing, or the same thing once for one token, may be hedged.
        after: seconds without an answer after which the next attempt starts.
        percentile: take the delay from the calls of late, such as 0.95 for "slower than 95 of 100"; `after` then
            holds until `minimum_calls` were seen, and without it no attempt is started for slowness until then.
        at_most: attempts a call, the first among them; 1 means none besides it.
        budget: how many attempts may be added, as a share of the calls. A slow dependency is not helped by twice
            the load.
        floor: how many may be added beyond that, in a burst and where there are few calls.
        on: the errors after which the next attempt starts at once. Others are answers. A refusal (`Rejected`)
            starts nothing: the same policy would refuse again.
        minimum_calls: see `percentile`.
    """

    idempotent: bool = False
    after: float | None = None
    percentile: float | None = None
    at_most: int = 2
    budget: float = 0.1
    floor: int = 10
    on: tuple[type[Exception], ...] = (Exception,)
    minimum_calls: int = 20

    def __post_init__(self) -> None:
        if self.idempotent is not True:
            raise Misuse(f"a hedge runs the call twice at once: say idempotent=True if that is harmless; {_CURE}")
        if self.after is None and self.percentile is None:
            raise Misuse(f"a hedge needs after= (seconds) or percentile=; {_CURE}")
        if self.after is not None:
            object.__setattr__(self, "after", seconds(self.after, "after"))
        if self.percentile is not None and not fraction(self.percentile, "percentile") < 1:
            raise Misuse(f"percentile must be below 1, such as 0.95, got {self.percentile!r}")
        positive_int(self.at_most, "at_most")
        object.__setattr__(self, "budget", fraction(self.budget, "budget"))
        positive_int(self.floor, "floor", least=0)
        positive_int(self.minimum_calls, "minimum_calls")
        if self.budget < 0.000001:
            raise Misuse(
                f"budget must be at least one in a million, got {self.budget!r}; at_most=1 switches hedges off"
            )
        on: Any = self.on
        object.__setattr__(self, "on", tuple(cast("list[Any]", on)) if isinstance(on, list | tuple) else (on,))
        for error in self.on:
            given: Any = error
            if not (isinstance(given, type) and issubclass(given, Exception)):
                raise Misuse(f"on takes exception classes; cancellation and exit are never hedged, got {given!r}")

    @classmethod
    def of(cls, value: Any) -> HedgeSettings:
        """Return settings as they are, or from a document's mapping. There is no short form.

        Raises:
            Misuse: it is neither; a number alone does not say that the call is idempotent.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "hedge")
        raise Misuse(f"hedge={value!r} does not say that the call is idempotent; {_CURE}")
