"""The four levels, and their words in documents."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from backstay.errors import Misuse

__all__ = ["Level", "level_of"]


class Level(IntEnum):
    """How far a resource is degraded. Compared as numbers: `level >= Level.ERROR`."""

    NORMAL = 0
    WARNING = 1
    ERROR = 2
    SEVERE = 3

    @property
    def word(self) -> str:
        """Its word in documents, telemetry and headers, such as `severe`."""
        return self.name.lower()


_BY_WORD = {level.word: level for level in Level}


def level_of(value: Any, what: str) -> Level:
    """Return a level from itself or from its word.

    Raises:
        Misuse: there is no such level; the text lists them.
    """
    if isinstance(value, Level):
        return value
    found = _BY_WORD.get(value) if isinstance(value, str) else None
    if found is None:
        raise Misuse(f"{what} must be one of {', '.join(_BY_WORD)}, got {value!r}")
    return found
