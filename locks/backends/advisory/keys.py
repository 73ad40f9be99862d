"""From the name of a lock to the number that PostgreSQL locks (E5).

The key is the first eight bytes of SHA-256 over `backstay:<namespace>:<kind>:<name>` in UTF-8, as a signed number, most
significant byte first; blanks in the kind become `-`. The same in SQL, for the lock `order:42` of the namespace `shop`:

    ('x' || left(encode(sha256(convert_to('backstay:shop:lock:order:42', 'UTF8')), 'hex'), 16))::bit(64)::bigint

Two names may have the same key: then they exclude each other although they need not, which is as likely as one in
2**64 for each pair of names.
"""

from __future__ import annotations

import hashlib

from backstay.locks.claims import Resource

__all__ = ["key_of"]


def key_of(space: str, resource: Resource) -> int:
    """Return the advisory key of a resource."""
    text = f"backstay:{space}:{resource.kind.replace(' ', '-')}:{resource.name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
