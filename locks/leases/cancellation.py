"""Cancels the task that runs a block when its lease is lost, and tells that cancellation from all others.

The counting is asyncio's own, as `asyncio.timeout` does it: each `cancel()` must be answered by one `uncancel()`,
and who finds requests left over that are not its own lets the cancellation pass.
"""

from __future__ import annotations

import asyncio

from .loss import AsyncLoss

__all__ = ["Cancellation"]


class Cancellation:
    """Watches one block from its beginning: made in the task that runs it.

    The news of a loss comes in a task of its own, so the block's task is at an await then, and that await raises.
    """

    __slots__ = ("_armed", "_before", "_sent", "_task")

    def __init__(self, lost: AsyncLoss) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        self._armed, self._sent = True, False
        lost.call(self._cancel)

    def _cancel(self) -> None:
        if self._armed and self._task is not None and not self._task.done():
            self._sent = self._task.cancel("the lease of this block was lost")

    def ended(self, error: BaseException | None) -> bool:
        """End the watch; return whether `error` is the cancellation that was sent from here, and nobody else's."""
        self._armed = False
        if not self._sent or self._task is None:
            return False
        return self._task.uncancel() <= self._before and isinstance(error, asyncio.CancelledError)
