"""Switches in a TOML or JSON file.

The whole file is read at each poll: a few kilobytes cost less than the ways in which time stamps lie (two
changes within one tick of the file system, a copy that keeps the old time). Replace the file by a rename:
a file that is seen half written may happen to be a valid document with switches missing, so a change is
taken only when two reads a moment apart agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backstay.errors import Misuse, Unavailable

from ..document import LARGEST, Document, parse

__all__ = ["FileSource"]

_SETTLING = 0.02  # s


class FileSource:
    """A file on this host.

    Args:
        path: ends in `.toml` or `.json`.
        sleep: waits between the two reads of a changed file.

    Raises:
        Misuse: the path ends in something else.
    """

    kind = "file"

    def __init__(self, path: str | Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = Path(path)
        self._sleep = sleep
        self._form = self._path.suffix.lstrip(".").lower()
        self._last: bytes | None = None
        if self._form not in {"toml", "json"}:
            raise Misuse(f"switch file {str(path)!r} must end in .toml or .json")

    @property
    def name(self) -> str:
        """The file's URL."""
        return f"file://{self._path}"

    def poll(self) -> Document | None:
        """Return the file's document if it differs from the last one."""
        text = self._read()
        while text != self._last:
            self._sleep(_SETTLING)
            again = self._read()
            if again == text:
                try:
                    document = parse(text, form=self._form)
                except Misuse as error:
                    raise Misuse(f"switch file {str(self._path)!r}: {error}") from None
                self._last = text
                return document
            text = again
        return None

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(LARGEST + 1)
        except OSError as error:
            raise Unavailable(f"switch file {str(self._path)!r} cannot be read: {error.strerror or error}") from error
