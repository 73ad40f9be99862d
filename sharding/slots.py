"""From a sharding key to a slot: which values are keys, their one canonical form, and the hash.

The hash is part of the storage format and never changes within a layout version:

    crc  = CRC-32 (IEEE 802.3, as in zlib) of the key's bytes
    slot = ((crc * 2654435761 mod 2**32) * slots) div 2**32

Bytes of a key: an int is `i` and nine bytes big-endian two's complement; a text is `s` and its UTF-8 after
NFC and without trailing spaces; a UUID is `u` and its 16 bytes; bytes are `b` and themselves. CRC-32 keeps any
two keys that differ in one run of 32 bits apart; the odd factor spreads keys with a power-of-two stride.
Python's own `hash` takes no part: it differs between processes.
"""

from __future__ import annotations

import operator
import unicodedata
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from .errors import BadKey

__all__ = ["BYTES", "INT", "KINDS", "TEXT", "UUID", "Key", "KeyKind", "slot"]

Key = int | str | bytes | uuid.UUID

_MIX: Final = 2654435761
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyKind:
    """A declared type of sharding keys.

    `canonical` gives the one form under which equal keys are equal, or raises `BadKey`; `encode` gives the
    bytes that are hashed, of a canonical key.
    """

    name: str
    canonical: Callable[[Any], Key]
    encode: Callable[[Any], bytes]


def slot(kind: KeyKind, key: Key, slots: int) -> int:
    """Return the slot, from 0 to `slots` - 1, of a canonical key."""
    return ((crc32(kind.encode(key)) * _MIX & 0xFFFFFFFF) * slots) >> 32


def _wrong(value: object, wanted: str) -> BadKey:
    # The value itself stays out of the text: keys can be personal data.
    return BadKey(f"a sharding key of type {wanted} was given as {type(value).__name__}; convert it where it comes in")


def _int(value: Any) -> Key:
    if type(value) is not int:
        if value is None:
            raise BadKey("a sharding key is NULL; every row needs a key that says where it lives")
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise _wrong(value, "int")
        value = operator.index(value)  # numpy integers
    if not _LOWEST <= value <= _HIGHEST:
        raise BadKey("a sharding key of type int is outside of 64 bits")
    return value  # type: ignore[no-any-return]  # operator.index of an Any


def _text(value: Any) -> Key:
    if not isinstance(value, str):
        raise BadKey("a sharding key is NULL") if value is None else _wrong(value, "str")
    # Databases that pad compare 'a' = 'a '; one shard for both is right for all of them.
    return unicodedata.normalize("NFC", value).rstrip(" ")


def _uuid(value: Any) -> Key:
    if not isinstance(value, uuid.UUID):
        raise BadKey("a sharding key is NULL") if value is None else _wrong(value, "UUID")
    return value


def _bytes(value: Any) -> Key:
    if not any(isinstance(value, kind) for kind in (bytes, bytearray, memoryview)):
        raise BadKey("a sharding key is NULL") if value is None else _wrong(value, "bytes")
    return bytes(value)


INT: Final = KeyKind(name="int", canonical=_int, encode=lambda key: b"i" + key.to_bytes(9, "big", signed=True))
TEXT: Final = KeyKind(name="str", canonical=_text, encode=lambda key: b"s" + key.encode("utf-8", "surrogatepass"))
UUID: Final = KeyKind(name="UUID", canonical=_uuid, encode=lambda key: b"u" + key.bytes)
BYTES: Final = KeyKind(name="bytes", canonical=_bytes, encode=lambda key: b"b" + key)
KINDS: Final = {int: INT, str: TEXT, uuid.UUID: UUID, bytes: BYTES}
