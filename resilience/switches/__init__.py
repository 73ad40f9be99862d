"""Degradation switches: what is turned off, read without a lock, delivered from behind."""

from __future__ import annotations

from .document import Document
from .model import Switch
from .reading import Details
from .snapshot import Snapshot
from .source import Source
from .sources.file import FileSource
from .sources.memory import MemorySource
from .switches import State, Status, Switches

__all__ = [
    "Details",
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
