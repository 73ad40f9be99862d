"""A document that the program itself sets: for a service without a source, and for tests."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..envelope import Cursor, Envelope
from ..port import Hear, Told

__all__ = ["MemorySource"]


class MemorySource:
    """A document in this process; `publish` replaces it and tells those who listen.

    Args:
        switches: the section of switches.
        scope: of the document.
        sections: further sections by name.

    Raises:
        Misuse: a section holds what a document cannot.
    """

    kind = "memory"
    name = "memory://"

    def __init__(
        self,
        switches: Mapping[str, Any] | None = None,
        *,
        scope: str = "memory",
        **sections: Mapping[str, Any],
    ) -> None:
        self._lock = threading.Lock()
        self._ears: list[Hear] = []
        self._scope = scope
        self._present = self._document(1, switches, sections)

    def publish(self, switches: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]) -> Envelope:
        """Replace the document and return it; it is in force soon after.

        Raises:
            Misuse: a section holds what a document cannot; nothing changed.
        """
        with self._lock:
            made = self._present = self._document(self._present.version + 1, switches, sections)
            ears = tuple(self._ears)
        for hear in ears:
            hear(Told(epoch=made.epoch, version=made.version, envelope=made))
        return made

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the document unless it is `known`; at once, whatever `wait` is."""
        present = self._present
        return None if present.cursor == known else present

    def subscribe(self, hear: Hear) -> _Listening:
        """Tell `hear` of each new document, in the thread that publishes it."""
        with self._lock:
            self._ears.append(hear)
        return _Listening(self, hear)

    def leave(self, hear: Hear) -> None:
        """Tell `hear` no longer."""
        with self._lock:
            if hear in self._ears:
                self._ears.remove(hear)

    def close(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            self._ears.clear()

    def _document(
        self, version: int, switches: Mapping[str, Any] | None, sections: Mapping[str, Mapping[str, Any]]
    ) -> Envelope:
        return Envelope.seal(
            scope=self._scope, epoch=1, version=version, items={"switches": switches or {}, **sections}
        )


class _Listening:
    alive = True

    def __init__(self, source: MemorySource, hear: Hear) -> None:
        self._source = source
        self._hear = hear

    def close(self) -> None:
        self._source.leave(self._hear)
