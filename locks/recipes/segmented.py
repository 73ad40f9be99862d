"""A lock in stripes: keys that fall on different stripes do not wait for each other, blocking and asyncio.

Which stripe a key falls on is the same in every process, language and year (G1): the CRC-32 of the key's bytes, modulo
the number of stripes. The number is stored; a caller that counts with another is refused, since it would lock other
stripes for the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack
from uuid import UUID
from zlib import crc32

from backstay.blocking import drive
from backstay.errors import Misuse

from ..claims import Claim, Resource, stripes, whole
from ..leases.handle import AsyncLease, Lease
from ..options import Options, Terms, changed, checked_name, checked_size
from .mutex import AsyncSection, Reach, Section

__all__ = ["AsyncSegmented", "Key", "Segmented", "stripe_of"]

KIND = "segmented lock"
MOST = 1024  # stripes: a claim names each that it needs

Key = str | int | bytes | UUID


def stripe_of(key: Key, segments: int) -> int:
    """Return the stripe of a key: CRC-32 (zlib, ISO 3309) of its bytes, modulo the number of stripes.

    The bytes of a text are its UTF-8, of a whole number its decimal digits (7 and "7" fall on one stripe), of a UUID
    its 36 characters. The CRC of "123456789" is 3421780262, so with 16 stripes it falls on 6.

    Raises:
        Misuse: it is of another type, whose text could differ from one process to the next.
    """
    given: Any = key  # callers may be untyped
    if isinstance(given, bytes):
        return crc32(given) % segments
    if isinstance(given, (str, int, UUID)) and not isinstance(given, bool):
        return crc32(str(given).encode()) % segments
    raise Misuse(f"a key is a text, a whole number, bytes or a UUID, got {type(given).__name__}; make it one of these")


def _claim(keys: Sequence[Key], segments: int) -> Claim:
    if not keys:
        raise Misuse("lock() needs at least one key; whole() locks all stripes")
    return stripes((stripe_of(key, segments) for key in keys), segments)


class Segmented:
    """A lock in stripes.

        stock = locks.segmented("stock", segments=16)
        with stock.lock("sku-1"): ...
        with stock.lock("sku-1", "sku-2"): ...  # both stripes at once, or none
        with stock.whole(): ...                 # everything

    Who needs several keys names them in one call: that takes their stripes together, so two callers cannot hold what
    the other waits for (G2). The whole waits for the holders of stripes and is not overtaken by those who come later,
    nor overtakes who came before (G4).
    """

    __slots__ = ("_reach", "_resource", "_segments", "_terms")

    def __init__(self, reach: Reach, name: str, segments: int, terms: Terms) -> None:
        self._reach, self._terms = reach, terms
        self._resource = Resource(checked_name(name), KIND)
        self._segments = checked_size(segments, "segments", MOST)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    @property
    def segments(self) -> int:
        """How many stripes it has, as this object counts."""
        return self._segments

    def stripe(self, key: Key) -> int:
        """Return the number of the stripe that a key falls on."""
        return stripe_of(key, self._segments)

    def lock(self, *keys: Key, **options: Unpack[Options]) -> Section[Lease]:
        """Return the lock on the stripes of these keys, all or none; keys on one stripe take it once.

        Args:
            keys: texts, whole numbers, bytes or UUIDs.
            options: what differs from the terms of the lock.

        Raises:
            Misuse: no key, or one whose bytes are not defined; on entering `SizeDiffers`, where the number of stripes
                was changed.
        """
        claim = _claim(keys, self._segments)
        return Section(self._reach, self._resource, claim, changed(self._terms, options), Lease)

    def whole(self, **options: Unpack[Options]) -> Section[Lease]:
        """Return the lock on all stripes together.

        Args:
            options: what differs from the terms of the lock.
        """
        return Section(self._reach, self._resource, whole(self._segments), changed(self._terms, options), Lease)

    def resize(self, segments: int) -> int:
        """Set the number of stripes, for everybody, and return what it was; 0 where nobody had said.

        Nobody loses what they hold. Until all who hold now are gone nothing is granted, so the old stripes and the
        new exclude each other (G3). Others who still count with the old number are refused, those who wait as well.

        Raises:
            Misuse: not a number from 1 to 1024.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        size = checked_size(segments, "segments", MOST)
        backend = self._reach().backend
        before = drive(backend.resize(self._resource, size, True, backend.patience))
        self._segments = size
        return before


class AsyncSegmented:
    """A lock in stripes.

        stock = locks.segmented("stock", segments=16)
        async with stock.lock("sku-1"): ...
        async with stock.lock("sku-1", "sku-2"): ...  # both stripes at once, or none
        async with stock.whole(): ...                 # everything

    Who needs several keys names them in one call: that takes their stripes together, so two callers cannot hold what
    the other waits for (G2). The whole waits for the holders of stripes and is not overtaken by those who come later,
    nor overtakes who came before (G4).
    """

    __slots__ = ("_reach", "_resource", "_segments", "_terms")

    def __init__(self, reach: Reach, name: str, segments: int, terms: Terms) -> None:
        self._reach, self._terms = reach, terms
        self._resource = Resource(checked_name(name), KIND)
        self._segments = checked_size(segments, "segments", MOST)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    @property
    def segments(self) -> int:
        """How many stripes it has, as this object counts."""
        return self._segments

    def stripe(self, key: Key) -> int:
        """Return the number of the stripe that a key falls on."""
        return stripe_of(key, self._segments)

    def lock(self, *keys: Key, **options: Unpack[Options]) -> AsyncSection[AsyncLease]:
        """Return the lock on the stripes of these keys, all or none; keys on one stripe take it once.

        Args:
            keys: texts, whole numbers, bytes or UUIDs.
            options: what differs from the terms of the lock.

        Raises:
            Misuse: no key, or one whose bytes are not defined; on entering `SizeDiffers`, where the number of stripes
                was changed.
        """
        claim = _claim(keys, self._segments)
        return AsyncSection(self._reach, self._resource, claim, changed(self._terms, options), AsyncLease)

    def whole(self, **options: Unpack[Options]) -> AsyncSection[AsyncLease]:
        """Return the lock on all stripes together.

        Args:
            options: what differs from the terms of the lock.
        """
        return AsyncSection(
            self._reach, self._resource, whole(self._segments), changed(self._terms, options), AsyncLease
        )

    async def resize(self, segments: int) -> int:
        """Set the number of stripes, for everybody, and return what it was; 0 where nobody had said.

        Nobody loses what they hold. Until all who hold now are gone nothing is granted, so the old stripes and the
        new exclude each other (G3). Others who still count with the old number are refused, those who wait as well.

        Raises:
            Misuse: not a number from 1 to 1024.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        size = checked_size(segments, "segments", MOST)
        backend = self._reach().backend
        before = await backend.resize(self._resource, size, True, backend.patience)
        self._segments = size
        return before
