"""The refusal of a breaker, cheap enough to be raised a million times a second."""

from __future__ import annotations

from backstay.errors import BreakerOpen

__all__ = ["CircuitOpen"]


class CircuitOpen(BreakerOpen):
    """A circuit breaker refused a call; nothing was done.

    Args:
        breaker: its name.
        state: `open`, `half_open` or `forced_open`.
        retry_after: seconds until it lets a call through, or None where nobody can tell.
    """

    # No call of the parents' `__init__` and no text before somebody reads it: an open breaker refuses every call
    # of an outage. The arguments are kept by `BaseException.__new__`, which is what copying and pickling use.
    def __init__(self, breaker: str, state: str, retry_after: float | None = None) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.breaker = breaker
        self.state = state
        self.retry_after = retry_after

    def __str__(self) -> str:
        what = f"circuit breaker {self.breaker!r} is {self.state.replace('_', ' ')}"
        if self.state == "half_open":
            return f"{what}, and its probes are under way; retry when they are done"
        if self.retry_after is None:
            return f"{what} until somebody closes it"
        return f"{what}; retry in {self.retry_after:.1f} s"
