"""The errors that only locks have: what was mine is no longer mine, and what we share we see differently."""

from __future__ import annotations

from threading import BrokenBarrierError
from typing import ClassVar

from backstay.errors import BackstayError, Misuse, Rejected

from .claims import Resource

__all__ = ["BrokenBarrier", "LockLost", "SizeDiffers"]


class LockLost(BackstayError):
    """A lease that was held has ended before its holder gave it back.

    This is neither a refusal (the lock was granted) nor doubt (it is certain that the time of exclusion is
    over): work that was done since `fence` was valid may have run beside another holder's. What to do:
    stop, and let the resource refuse the fence of a late write.

    Args:
        message: which lock, why, and what now.
        lock: the name of the lock.
        fence: the fence of the lease that was lost.
        reason: `expired`, `taken`, `forked`, `closed`, `session`, `doubted`, `max_hold`, or `released` and `detached`
            where it was given away by its holder.
    """

    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "Lock lost"

    def __init__(self, message: str = "", *, lock: str = "", fence: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.lock = lock
        self.fence = fence
        self.reason = reason


class SizeDiffers(Misuse):
    """The store has this resource with another size than its caller says: permits of a semaphore, stripes of a lock.

    Two processes that count differently would exclude each other wrongly, so the one that differs is refused.

    Args:
        resource: which one.
        said: the size that the caller named.
        size: the size at the store.
    """

    def __init__(self, resource: Resource, said: int, size: int) -> None:
        super().__init__(
            f"{resource} has size {size} at the store, and this caller says {said}; "
            f"say {size}, or change it for everybody with resize({said})"
        )
        self.resource, self.said, self.size = resource, said, size


class BrokenBarrier(Rejected, BrokenBarrierError):
    """A round of a barrier ended without passing: one of its parties died, went away, or it was reset.

    All who had come are told so, and all who come later, until somebody resets it. Code written for
    `threading.Barrier` catches it by the name that it knows.
    """
