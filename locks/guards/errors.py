"""What a resource answers to a write that it does not take."""

from __future__ import annotations

from typing import ClassVar

from backstay.errors import BackstayError
from backstay.locks.errors import LockLost

__all__ = ["FenceMalformed", "FenceMissing", "StaleFence"]


class StaleFence(LockLost):
    """The resource has seen a later holder of the lock, so this write was refused; nothing of it was done.

    It is a `LockLost`: the later holder was granted the lock after this lease had ended, whatever its own
    process believes. Repeating the write is of no use; what helps is to take the lock again and to begin with
    what the resource holds now. Over HTTP it is 409, since the request conflicts with what stands there already.

    Args:
        message: which lock, which fence, where, and what now.
        lock: the name of the lock.
        fence: the fence that was offered.
        highest: the highest fence that the resource had seen, None where it did not say.
    """

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Overtaken by a later holder"

    def __init__(self, message: str = "", *, lock: str = "", fence: int = 0, highest: int | None = None) -> None:
        super().__init__(message, lock=lock, fence=fence, reason="overtaken")
        self.highest = highest

    @classmethod
    def at(cls, resource: str, *, lock: str, fence: int, highest: int | None) -> StaleFence:
        """Return the error of a write to `resource` under `lock` with `fence`."""
        seen = "a later one" if highest is None else f"fence {highest}"
        text = (
            f"{resource} has seen {seen} of lock {lock!r}: the write with fence {fence} comes from an earlier holder "
            "and was refused; take the lock again and start from what is there now"
        )
        return cls(text, lock=lock, fence=fence, highest=highest)


class FenceMissing(BackstayError):
    """A request came without the fence of the lock that guards what it would change; nothing was done."""

    http_status: ClassVar[int] = 428
    title: ClassVar[str] = "Fence required"


class FenceMalformed(BackstayError):
    """A request carries a fence that cannot be read; nothing was done."""

    http_status: ClassVar[int] = 400
    title: ClassVar[str] = "Malformed fence"
