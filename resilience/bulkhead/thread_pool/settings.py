"""What can be set on a thread pool, also while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backstay.errors import Misuse

from ...policy import from_mapping, positive_int, seconds

__all__ = ["ThreadPoolSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPoolSettings:
    """How many workers there are, and how much work may wait for them.

    Attributes:
        core: workers that are kept once they were needed, at least 1.
        max: workers at most; those above `core` are hired when the queue is full.
        queue: calls that may wait for a worker; 0 for none.
        keep_alive: seconds after which an idle worker above `core` leaves.

    Raises:
        Misuse: a value is out of range, or `core` is above `max`.
    """

    core: int = 4
    max: int = 8
    queue: int = 32
    keep_alive: float = 30.0

    def __post_init__(self) -> None:
        positive_int(self.core, "core")
        positive_int(self.max, "max")
        positive_int(self.queue, "queue", least=0)
        object.__setattr__(self, "keep_alive", seconds(self.keep_alive, "keep_alive"))
        if self.core > self.max:
            raise Misuse(f"core must not be above max, got {self.core} and {self.max}")

    @classmethod
    def of(cls, value: ThreadPoolSettings | Mapping[str, Any] | int) -> ThreadPoolSettings:
        """Return the settings that `value` stands for: settings, a mapping, or the number of workers.

        Raises:
            Misuse: it is none of these, or a value is out of range.
        """
        if isinstance(value, ThreadPoolSettings):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, value, "thread pool")
        given: Any = value
        if type(given) is int:
            return cls(core=given, max=given)
        raise Misuse(f"a thread pool takes a number of workers, a mapping or ThreadPoolSettings, got {given!r}")

    def workers(self, calls: int, abandoned: int) -> int:
        """Return how many workers there should be for so many calls, running and queued.

        An abandoned worker is no help to anybody, so it does not count against `core`.
        """
        return min(self.max, max(min(calls, self.core + abandoned), calls - self.queue))
