"""The last good answers of one function, bounded in number."""

from __future__ import annotations

import threading
from typing import Any

from ..forks import renew_in_child

__all__ = ["LastGood"]


class _Entry:
    """One key's answer and when the call for it began, replaced together."""

    __slots__ = ("kept",)

    def __init__(self, kept: tuple[Any, float]) -> None:
        self.kept = kept


class LastGood:
    """Answers by key. A read and a write to a known key take no lock.

    Of two answers for a key the one whose call began later is kept, so that a slow call does not put an old
    answer over a newer one. (Two writes at the very same moment may be ordered either way.)
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        renew_in_child(self)

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, key: str, value: Any, began: float) -> None:
        """Keep a good answer of a call that began at `began`."""
        entry = self._entries.get(key)
        if entry is not None:
            if began >= entry.kept[1]:
                entry.kept = (value, began)
            return
        with self._lock:
            self._entries[key] = _Entry((value, began))
            while len(self._entries) > self.max_entries:
                del self._entries[next(iter(self._entries))]

    def resize(self, max_entries: int) -> None:
        """Keep at most so many from now on."""
        with self._lock:
            self.max_entries = max_entries
            while len(self._entries) > max_entries:
                del self._entries[next(iter(self._entries))]

    def last(self, key: str) -> tuple[Any, float] | None:
        """Return the last good answer and when its call began, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.kept

    def renew(self) -> None:
        """Replace the lock in a forked child; the answers stay."""
        self._lock = threading.Lock()
