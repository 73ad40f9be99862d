"""Switches set by the program itself: for a service without a file, and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..document import Document, check_name
from ..model import Switch, Value, standing

__all__ = ["MemorySource"]


class MemorySource:
    """A document in this process; `publish` replaces it."""

    kind = "memory"
    name = "memory://"

    def __init__(self, switches: Mapping[str, Value | Switch] | None = None) -> None:
        self._present = _document(switches or {})
        self._last: Document | None = None

    def publish(self, switches: Mapping[str, Value | Switch]) -> None:
        """Replace the document; it is in force after the next poll."""
        self._present = _document(switches)

    def poll(self) -> Document | None:
        """Return the document if it was replaced since."""
        present = self._present
        if present is self._last:
            return None
        self._last = present
        return present


def _document(switches: Mapping[str, Value | Switch]) -> Document:
    states = {check_name(name): standing(value) for name, value in switches.items()}
    return Document(switches=MappingProxyType(states))
