"""Degradation switches: what is turned off, read without a lock, delivered from behind."""

from __future__ import annotations

from .document import Document, Switch
from .source import Source
from .sources.file import FileSource
from .sources.memory import MemorySource
from .switches import Snapshot, State, Status, Switches

__all__ = [
    "Document",
    "FileSource",
    "MemorySource",
    "Snapshot",
    "Source",
    "State",
    "Status",
    "Switch",
    "Switches",
]
