"""Answers as bytes, and back: how they leave the process, and what shows that they came back whole."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

__all__ = ["JSON", "Codec", "Poisoned", "Stored", "pack", "unpack"]

VERSION: Final = b"1"
VALUE, ABSENT, FORGOTTEN = b"v", b"n", b"g"


@runtime_checkable
class Codec(Protocol):
    """Makes bytes of an answer, and the answer of bytes. It must never run what it reads: no pickle."""

    def encode(self, value: Any) -> bytes:
        """Return the bytes of an answer; whatever it raises, the answer is then not stored."""
        ...

    def decode(self, data: bytes) -> Any:
        """Return the answer; whatever it raises, the answer then counts as poisoned."""
        ...


class _Json:
    """JSON in UTF-8. Tuples come back as lists, and keys of mappings as texts."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def decode(self, data: bytes) -> Any:
        return json.loads(data)

    def __repr__(self) -> str:
        return "JSON"


JSON: Final[Codec] = _Json()


class Poisoned(ValueError):
    """What was stored cannot be believed: another format, another key's, cut off, or from the future."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a distributed cache had: `moment_us` on its own clock, and the answer's bytes."""

    moment_us: int
    kind: bytes
    payload: bytes


def pack(key: str, kind: bytes, payload: bytes) -> bytes:
    """Return what is stored behind version and moment, which the server puts before it."""
    return b"%b %08x %b" % (kind, _checksum(key, kind, payload), payload)


def unpack(key: str, data: bytes) -> Stored:
    """Read what was stored under a key.

    Raises:
        Poisoned: it is not what `pack` made for this key.
    """
    parts = data.split(b" ", 4)
    if len(parts) != 5 or parts[0] != VERSION:
        raise Poisoned("of another format")
    _, moment, kind, checksum, payload = parts
    if kind not in (VALUE, ABSENT, FORGOTTEN) or not moment.isdigit() or len(moment) > 17:
        raise Poisoned("of another format")
    if checksum != b"%08x" % _checksum(key, kind, payload):
        raise Poisoned("damaged, or stored for another key")
    return Stored(int(moment), kind, payload)


def _checksum(key: str, kind: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(kind + key.encode("utf-8", "surrogatepass")))
