"""One limit inside itself charges a logical call once, the outermost (CO-4).

A limit that is put round one function only has nothing to find out, and its calls do not pay for it: from its second
use on, calls leave a mark in their context. A mark ends with its call, so that work which outlives the call, a task
that it started for example, is charged again.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TypeAlias

from ..forks import Guard

__all__ = ["Bucket", "Mark", "Use", "charged", "enter", "innermost", "join", "within"]


class Mark:
    """A charged call that is still running."""

    __slots__ = ("bucket", "live", "outer")

    def __init__(self, bucket: Bucket, outer: Mark | None) -> None:
        self.bucket = bucket
        self.outer = outer
        self.live = True

    def leave(self) -> None:
        """Note the end of the call."""
        self.live = False
        # A block may end in another context than it began in; a dead mark does no harm there.
        if innermost.get() is self:
            innermost.set(self.outer)


class Use:
    """One function or block behind a limit, and what its calls have to know: `slow` if more than a charge is due."""

    __slots__ = ("__weakref__", "cost", "shared", "slow", "wait")

    def __init__(self, cost: int, wait: float) -> None:
        self.shared = False
        self.change(cost, wait)

    def change(self, cost: int, wait: float) -> None:
        """Go over to another cost and waiting time."""
        self.cost, self.wait = cost, wait
        self.slow = self.shared or wait > 0

    def share(self) -> None:
        """Know that the limit is used elsewhere as well."""
        self.shared = self.slow = True


Bucket: TypeAlias = tuple[object, str]
"""What is the same for all faces of a limiter, and the key."""

innermost: ContextVar[Mark | None] = ContextVar("backstay-charged", default=None)
"""The mark of the charged call that runs, or of one that has ended."""

_uses: dict[object, weakref.WeakSet[Use]] = {}
_guard = Guard()


def join(identity: object, use: Use) -> None:
    """Note that a limiter has one more use; from the second on all of them look out for each other."""
    with _guard.lock:
        uses = _uses.setdefault(identity, weakref.WeakSet())
        uses.add(use)
        if len(uses) > 1:
            for each in uses:
                each.share()


def charged(bucket: Bucket) -> bool:
    """Return whether the running call was charged to this bucket already."""
    return within(innermost.get(), bucket)


def within(mark: Mark | None, bucket: Bucket) -> bool:
    """Return whether a call of this mark was charged to this bucket."""
    while mark is not None:
        if mark.live and mark.bucket == bucket:
            return True
        mark = mark.outer
    return False


def enter(bucket: Bucket) -> Mark:
    """Mark what runs from here on as charged, until the mark's `leave`."""
    mark = Mark(bucket, innermost.get())
    innermost.set(mark)
    return mark
