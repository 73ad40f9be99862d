"""Who applies which section: all of them prepare a document, then all apply it, or none does (SW-3, SW-9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backstay.errors import Misuse

from .envelope import Envelope
from .port import Change, Consumer, Lapsing, Telling

__all__ = ["Consumers"]


class Consumers:
    """The consumers of one plane, which serializes the calls."""

    def __init__(self) -> None:
        self._by_section: dict[str, Consumer] = {}
        self.given: Envelope | None = None

    def add(self, consumer: Consumer) -> None:
        """Add one.

        Raises:
            Misuse: its section has one already.
        """
        there = self._by_section.setdefault(consumer.section, consumer)
        if there is not consumer:
            raise Misuse(f"section {consumer.section!r} has a consumer already: {there!r}; attach one for each section")

    def lapse(self) -> float | None:
        """Let go of what has ended; return in how many seconds something else will have, or None."""
        moments = [consumer.lapse() for consumer in tuple(self._by_section.values()) if isinstance(consumer, Lapsing)]
        return min((moment for moment in moments if moment is not None), default=None)

    def tell(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """Return the levels of all consumers that have some, and what they were judged by."""
        levels: dict[str, str] = {}
        signals: dict[str, Any] = {}
        for consumer in tuple(self._by_section.values()):
            if isinstance(consumer, Telling):
                now, by = consumer.tell()
                levels.update(now)
                signals.update(by)
        return levels, signals

    def apply(self, envelope: Envelope) -> None:
        """Apply a document to all; a section that it does not have is empty.

        Raises:
            Misuse: one of them refuses its section; nothing changed.
        """
        self.given = envelope
        changes: list[Change] = []
        for section, consumer in self._by_section.items():
            try:
                changes.append(consumer.prepare(envelope.items.get(section, {})))
            except Misuse as error:
                raise Misuse(f"version {envelope.cursor} of {envelope.scope}: {error}") from error
        begun: list[Change] = []
        try:
            for change in changes:
                begun.append(change)
                change.apply()
        except BaseException:
            while begun:
                begun.pop().undo()
            raise
