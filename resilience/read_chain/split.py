"""How a read's time is split over its tiers. Pure."""

from __future__ import annotations

__all__ = ["SHARE", "for_exchange", "for_origin"]

SHARE = 0.25
"""Of the time that is left, one exchange with the distributed cache gets at most this."""


def for_exchange(left: float | None, budget: float) -> float:
    """Return the seconds for one exchange with the distributed cache.

    Args:
        left: seconds until the deadline, None for none.
        budget: what the tier allows itself.
    """
    return budget if left is None else min(budget, max(0.0, left) * SHARE)


def for_origin(left: float | None, budget: float | None) -> float | None:
    """Return the seconds for the origin, so that one exchange after it still finds its time; None without a deadline.

    Args:
        left: seconds until the deadline, None for none.
        budget: of the exchange that comes after it, None if none does.
    """
    if left is None:
        return None
    return left if budget is None else left - for_exchange(left, budget)
