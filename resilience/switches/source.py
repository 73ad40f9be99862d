"""Port of switch delivery: where documents come from. A file today; a service, Redis or ZooKeeper likewise."""

from __future__ import annotations

from typing import Protocol

from .document import Document

__all__ = ["Source"]


class Source(Protocol):
    """Delivers whole documents. Only one thread at a time calls it, and never a thread that reads a switch."""

    @property
    def name(self) -> str:
        """What operators see, without secrets."""
        ...

    @property
    def kind(self) -> str:
        """One word for telemetry: `file`, `memory`, ..."""
        ...

    def poll(self) -> Document | None:
        """Return the present document, or None if it is the one returned last.

        A document counts as returned when it was understood. One that was not is tried again at the next poll.

        Raises:
            Unavailable: it cannot be read now; what is in force stays in force.
            Misuse: it was read and is no document.
        """
        ...
