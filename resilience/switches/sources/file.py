"""Switches in a TOML or JSON file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backstay.errors import Misuse

from ...delivery.envelope import Cursor
from ...delivery.sources.file import FileSource as DeliveredFile
from ..document import Document, read

__all__ = ["FileSource"]


class FileSource:
    """A file on this host, read as the delivery reads it.

    Args:
        path: ends in `.toml` or `.json`.
        sleep: waits between the two reads of a changed file.

    Raises:
        Misuse: the path ends in something else.
    """

    kind = "file"

    def __init__(self, path: str | Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._file = DeliveredFile(path, sleep=sleep)
        self._last: Cursor | None = None

    @property
    def name(self) -> str:
        """The file's URL."""
        return self._file.name

    def poll(self) -> Document | None:
        """Return the file's document if it differs from the last one."""
        found = self._file.fetch(self._last, 0.0)
        if found is None:
            return None
        try:
            document = Document(switches=read(found.items.get("switches", {})))
        except Misuse as error:
            raise Misuse(f"switch file {self.name!r}: {error}") from None
        self._last = found.cursor
        return document
