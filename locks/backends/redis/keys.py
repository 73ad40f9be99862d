"""Names of the keys of one resource: one hash tag, so that a Cluster keeps them on one node (criterion R8)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from backstay.locks.claims import KINDS, Resource

__all__ = ["DocumentKeys", "SharedKeys", "document_keys", "keys_of", "resource_of", "shared_keys", "tombstone"]

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_SLUGS = {kind.replace(" ", "-"): kind for kind in KINDS}


@lru_cache(maxsize=4096)
def keys_of(space: str, name: str) -> tuple[str, str, str, str]:
    """Return the keys `owner`, `fence`, `queue`, `waiters` of a lock.

    Braces in the name are escaped as in a URL: the first `}` would end the hash tag.
    """
    stem = _stem(space, name)
    return stem + "owner", stem + "fence", stem + "queue", stem + "waiters"


def tombstone(owner_key: str, token: str) -> str:
    """Return the key that says that `token` was given up."""
    return f"{owner_key[:-5]}gone:{token}"


class SharedKeys(NamedTuple):
    """The keys of a resource of any other kind than a lock."""

    holders: str
    fence: str
    queue: str
    waiters: str
    ends: str
    size: str

    def tombstone(self, token: str) -> str:
        """Return the key that says that `token` was given up."""
        return f"{self.size[:-4]}gone:{token}"


@lru_cache(maxsize=4096)
def shared_keys(space: str, resource: Resource) -> SharedKeys:
    """Return the keys of a resource that several can hold."""
    stem = _stem(space, resource.name) + _slug(resource) + ":"
    return SharedKeys(*(stem + part for part in SharedKeys._fields))


class DocumentKeys(NamedTuple):
    """The keys of a document."""

    document: str
    watchers: str


def document_keys(space: str, resource: Resource) -> DocumentKeys:
    """Return the keys of a document."""
    stem = _stem(space, resource.name) + _slug(resource) + ":"
    return DocumentKeys(stem + "document", stem + "watchers")


def resource_of(key: str) -> Resource | None:
    """Return the resource whose holders or waiters a key may have; None for other keys."""
    found = re.fullmatch(r"backstay:[^{}]*:\{([^{}]+)\}:(?:([a-z-]+):)?(owner|holders|queue)", key, re.DOTALL)
    if found is None:
        return None
    name, slug, _ = found.groups()
    kind = "lock" if slug is None else _SLUGS.get(slug)
    return None if kind is None else Resource(unquote(name), kind)


def _stem(space: str, name: str) -> str:
    return f"backstay:{space}:{{{name.translate(_ESCAPES)}}}:"


def _slug(resource: Resource) -> str:
    return resource.kind.replace(" ", "-")
