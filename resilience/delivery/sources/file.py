"""A document in a TOML or JSON file on this host, or an envelope in a JSON file.

The whole file is read at each look: a few kilobytes cost less than the ways in which time stamps lie (two
changes within one tick of the file system, a copy that keeps the old time). Replace the file by a rename:
a file that is seen half written may happen to be a valid document with entries missing, so a change is
taken only when two reads a moment apart agree.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from backstay.errors import Misuse, Unavailable

from ..envelope import LARGEST, SCHEMA, SECTIONS, Cursor, Envelope

__all__ = ["FileSource", "items_of"]

_SETTLING = 0.02  # s


class FileSource:
    """A file on this host.

    A file of sections (`[switches]`, `[levels]`, `[pipelines]`) has no version of its own: versions count the
    documents that this source has seen. A file with an envelope, as a service exports it, has the envelope's.

    Args:
        path: ends in `.toml` or `.json`.
        scope: of files without an envelope.
        sleep: waits between the two reads of a changed file.

    Raises:
        Misuse: the path ends in something else.
    """

    kind = "file"

    def __init__(self, path: str | Path, *, scope: str = "file", sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = Path(path)
        self._scope = scope
        self._sleep = sleep
        self._form = self._path.suffix.lstrip(".").lower()
        self._text: bytes | None = None
        self._present: Envelope | None = None
        if self._form not in {"toml", "json"}:
            raise Misuse(f"switch file {str(path)!r} must end in .toml or .json")

    @property
    def name(self) -> str:
        """The file's URL."""
        return f"file://{self._path}"

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the file's document unless it is `known`; at once, whatever `wait` is.

        Raises:
            Unavailable: the file cannot be read.
            Misuse: it holds no document.
        """
        text = self._read()
        while text != self._text:
            self._sleep(_SETTLING)
            again = self._read()
            if again == text:
                self._present = self._document(text)
                self._text = text
                break
            text = again
        present = self._present
        return None if present is None or present.cursor == known else present

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _document(self, text: bytes) -> Envelope:
        try:
            if self._form == "json" and _is_envelope(text):
                return Envelope.parse(text)
            version = 1 if self._present is None else self._present.version + 1
            return Envelope.seal(scope=self._scope, epoch=1, version=version, items=items_of(text, self._form))
        except Misuse as error:
            raise Misuse(f"switch file {str(self._path)!r}: {error}") from None

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(LARGEST + 1)
        except OSError as error:
            raise Unavailable(f"switch file {str(self._path)!r} cannot be read: {error.strerror or error}") from error


def items_of(text: bytes, form: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the sections of a document in TOML or JSON.

    Raises:
        Misuse: it is not of that form, has an entry that is no section, or has none at all.
    """
    if len(text) > LARGEST:
        raise Misuse(f"a document has at most {LARGEST:,} bytes, this one has {len(text):,}")
    try:
        raw: Any = tomllib.loads(text.decode()) if form == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # both decode errors are ValueErrors
        raise Misuse(f"no {form.upper()}: {error}") from None
    entries = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    sections = {name: _timed(section) for name, section in entries.items() if name != "schema"}
    if not sections:
        raise Misuse(
            "a document needs a table 'switches' (or levels, pipelines), as in [switches] recommendations = true"
        )
    unknown = set(sections) - set(SECTIONS)
    if unknown:
        raise Misuse(f"unknown entry {min(unknown)!r} in a document; known: schema, {', '.join(SECTIONS)}")
    schema = entries.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        raise Misuse(f"documents of schema {schema!r} are not understood; this version reads schema {SCHEMA}")
    return sections


def _is_envelope(text: bytes) -> bool:
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and "items" in raw


def _timed(value: Any) -> Any:
    """Return `value` with the moments that TOML knows as the texts that JSON has for them."""
    if isinstance(value, dict):
        return {name: _timed(entry) for name, entry in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        entries: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]  # TOML says nothing of its entries
        return [_timed(entry) for entry in entries]
    return value.isoformat() if isinstance(value, datetime) else value
