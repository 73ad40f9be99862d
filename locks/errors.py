"""The one error that only locks have: what was mine is no longer mine."""

from __future__ import annotations

from typing import ClassVar

from backstay.errors import BackstayError

__all__ = ["LockLost"]


class LockLost(BackstayError):
    """A lease that was held has ended before its holder gave it back.

    This is neither a refusal (the lock was granted) nor doubt (it is certain that the time of exclusion is
    over): work that was done since `fence` was valid may have run beside another holder's. What to do:
    stop, and let the resource refuse the fence of a late write.

    Args:
        message: which lock, why, and what now.
        lock: the name of the lock.
        fence: the fence of the lease that was lost.
        reason: `expired`, `taken`, `forked` or `closed`.
    """

    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "Lock lost"

    def __init__(self, message: str = "", *, lock: str = "", fence: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.lock = lock
        self.fence = fence
        self.reason = reason
