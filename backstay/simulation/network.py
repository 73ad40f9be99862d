"""How messages fare between simulated hosts."""

from __future__ import annotations

from dataclasses import dataclass

from backstay.errors import Misuse

__all__ = ["Network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How messages fare: probabilities in [0, 1], delays in seconds of world time.

    A request and its reply are two messages. A message that takes `long_delay` overtakes nothing and is
    overtaken by everything: this is how a late copy arrives after its sender gave up.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0001, 0.002)
    long_delay: tuple[float, float] = (0.5, 3.0)
    long_delays: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "long_delays"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise Misuse(f"{name} is a probability from 0 to 1, got {getattr(self, name)}")
