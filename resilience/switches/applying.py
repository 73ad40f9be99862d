"""A document of switches that is known to be understood, before it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .model import Switch

__all__ = ["Applying"]


class Applying:
    """A `Change` of the delivery's port."""

    def __init__(
        self,
        put: Callable[[Mapping[str, Switch], int], Callable[[], None]],
        document: Mapping[str, Switch],
        *,
        version: int,
    ) -> None:
        self._put = put
        self._document = document
        self._version = version
        self._back: Callable[[], None] | None = None

    def apply(self) -> None:
        """Let the document count."""
        self._back = self._put(self._document, self._version)

    def undo(self) -> None:
        """Go back to what was before."""
        if self._back is not None:
            self._back()
            self._back = None
