"""The second port: small texts that a store changes only for those who have read the latest one.

Latches, barriers, the news of an election and segmented stock are pure functions from a document to the next one;
a store gives them compare-and-set, its clock, and a hint that something changed. The rules of `Backend` hold:
every method is one exchange bounded by `timeout` seconds that ends as done, `Unavailable` or `OutcomeUnknown`.
A write whose outcome is unknown is settled by reading: whoever writes leaves a mark of its own in the text.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from backstay.errors import Misuse

from .claims import Resource

__all__ = ["LIMIT", "Document", "Documents", "Watch", "checked_text"]

LIMIT = 65536
"""Bytes of UTF-8 that a document has at most."""


def checked_text(resource: Resource, text: str) -> str:
    """Return `text` if a document can have it; every store asks this before it writes.

    Raises:
        Misuse: it is longer than `LIMIT` bytes.
    """
    if len(text) * 4 > LIMIT and (size := len(text.encode())) > LIMIT:
        raise Misuse(f"{resource}: a document has at most {LIMIT} bytes, got {size}; nothing was written")
    return text


class Document(NamedTuple):
    """One text, as it was at one moment."""

    text: str
    version: int
    """Rises with every write; never used again for another text of the same resource."""
    server_time: float
    """The store's clock, seconds, at this exchange; only differences mean anything. A store that tells its clock
    only when it writes (ZooKeeper) gives the time of the latest write."""


class Watch(Protocol):
    """Hints that a document may have changed; a hint can be lost or come for nothing."""

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint; false when the time is up. A change between `open` and the call is not missed."""
        ...

    async def close(self) -> None:
        """Ask for hints no longer."""
        ...


class Documents(Protocol):
    """The documents of one store and namespace, in one of two makes."""

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        """Return the document; None where there is none."""
        ...

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        """Set the text if the document still has `version`, 0 where there must be none yet.

        Args:
            resource: which document.
            text: at most `LIMIT` bytes.
            version: the one that was read.
            ttl: seconds after which an untouched document may disappear; None keeps it. A store that cannot
                forget by itself keeps it, so it means no more than "may".
            timeout: seconds.

        Returns:
            The document as it is now; None where somebody else was faster, and nothing was changed.
        """
        ...

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        """Delete the document if it still has `version`; return whether it did."""
        ...

    async def watch(self, resource: Resource, timeout: float) -> Watch:
        """Begin to listen; hints come for every change from before this returns."""
        ...
