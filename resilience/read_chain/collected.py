"""What the reads of one request said: whoever answers it can say the same (DG-6)."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from ..timeout.deadline import leave
from .answer import Answer

__all__ = ["COLLECTED", "Collected", "reads"]


class Collected:
    """The worst answer of each chain that was read: stale before fresh, then the oldest, then the static one.

    Tasks and threads that are started with a copy of the context say theirs here as well.
    """

    __slots__ = ("by_chain",)

    def __init__(self) -> None:
        self.by_chain: dict[str, Answer[Any]] = {}

    def note(self, chain: str, answer: Answer[Any]) -> None:
        """Note one answer."""
        worst = self.by_chain.get(chain)
        if worst is None or _badness(answer) > _badness(worst):
            self.by_chain[chain] = answer

    @property
    def age(self) -> float | None:
        """Seconds since the origin was asked for the oldest answer that was kept anywhere; None without one."""
        ages = [each.age for each in self.by_chain.values() if each.age is not None and each.source != "origin"]
        return max(ages, default=None)

    @property
    def stale(self) -> bool:
        """Whether one of them was stale."""
        return any(each.stale for each in self.by_chain.values())


COLLECTED: ContextVar[Collected | None] = ContextVar("backstay_reads", default=None)
"""Where reads say what they answer, None where nobody wants to know."""


class reads:  # noqa: N801  # a context manager that reads like a statement, as `suppress` does
    """Collects what reads say: `with reads() as collected: ...`; an inner block does not tell the outer one."""

    __slots__ = ("_collected", "_token")

    def __init__(self) -> None:
        self._collected = Collected()
        self._token: Token[Collected | None] | None = None

    def __enter__(self) -> Collected:
        self._token = COLLECTED.set(self._collected)
        return self._collected

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            leave(COLLECTED, token)


def _badness(answer: Answer[Any]) -> tuple[bool, bool, float]:
    return answer.age is None, answer.stale, answer.age or 0.0
