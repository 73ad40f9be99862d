"""A source of switch documents as a source of the delivery: versions count the documents that it gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..delivery.envelope import Cursor, Envelope
from .document import Document
from .model import Switch, thaw
from .source import Source

__all__ = ["Polled", "written"]


class Polled:
    """Asks a `Source` of switches at each look, in one thread at a time."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._present: Envelope | None = None

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def kind(self) -> str:
        """The source's kind."""
        return self.source.kind

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the source's document unless it is `known`; at once, whatever `wait` is."""
        document = self.source.poll()
        if document is not None:
            version = 1 if self._present is None else self._present.version + 1
            self._present = Envelope.seal(scope="switches", epoch=1, version=version, items=_items(document))
        present = self._present
        return None if present is None or present.cursor == known else present

    def close(self) -> None:
        """Do nothing: what a source holds open is its maker's."""


def written(switch: Switch) -> Any:
    """Return what a document says of a switch: what `document.read` reads as the same switch."""
    entries: dict[str, Any] = {}
    if switch.reason:
        entries["reason"] = switch.reason
    if switch.until is not None:
        entries["until"] = switch.until
    if switch.percentage is not None:
        entries["percentage"] = switch.percentage
    if switch.variants:
        entries.update(variants=thaw(switch.variants), default=switch.default, off=switch.off)
    if switch.split:
        entries["split"] = dict(switch.split)
    return {"enabled": switch.enabled, **entries} if entries else switch.enabled


def _items(document: Document) -> Mapping[str, Mapping[str, Any]]:
    return {"switches": {name: written(switch) for name, switch in document.switches.items()}}
