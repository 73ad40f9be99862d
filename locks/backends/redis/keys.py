"""Names of the keys of one lock: one hash tag, so that a Cluster keeps them on one node (criterion R8)."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["keys_of", "tombstone"]

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


@lru_cache(maxsize=4096)
def keys_of(space: str, name: str) -> tuple[str, str, str, str]:
    """Return the keys `owner`, `fence`, `queue`, `waiters` of a lock.

    Braces in the name are escaped as in a URL: the first `}` would end the hash tag.
    """
    stem = f"backstay:{space}:{{{name.translate(_ESCAPES)}}}:"
    return stem + "owner", stem + "fence", stem + "queue", stem + "waiters"


def tombstone(owner_key: str, token: str) -> str:
    """Return the key that says that `token` was given up."""
    return f"{owner_key[:-5]}gone:{token}"
