"""A mailbox whose notes are hints: where replicas have to confirm a grant, a hand-over has to be confirmed as well.

The script that hands a lock over runs for the one who releases it, and replicas confirm to a connection what was
written on it. So the waiter asks for the lock once more, which writes, and has that confirmed (R10).
"""

from __future__ import annotations

from backstay.locks.backend import Letter, Note

from .routed_mailbox import Box

__all__ = ["HintedMailbox"]


class _HintedLetter:
    """A place whose notes only say that it is time to look again."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Letter) -> None:
        self._inner = inner

    @property
    def address(self) -> str:
        return self._inner.address

    async def wait(self, timeout: float) -> Note | None:
        await self._inner.wait(timeout)
        return None

    def close(self) -> None:
        self._inner.close()


class HintedMailbox:
    """A mailbox in front of which each note becomes a hint."""

    def __init__(self, inner: Box) -> None:
        self._inner = inner
        self.open, self.close, self.forked = inner.open, inner.close, inner.forked

    def letter(self, token: str) -> Letter | None:
        """Return a place for `token`, None where the mailbox was never opened."""
        inner = self._inner.letter(token)
        return None if inner is None else _HintedLetter(inner)
