"""Logical hosts: the journal keeps `http://stock/reservations`, and each process says where `stock` is today.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from backstay.errors import Misuse

__all__ = ["check", "rewrite"]


def check(url: str) -> str:
    """Return a branch's URL without a closing slash.

    Raises:
        Misuse: it is no http or https URL, or holds a user name, query or fragment.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise Misuse(f"malformed branch URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Misuse(f"{url[:200]!r} is no branch; expected an action, or a URL such as 'http://stock/reservations'")
    if parts.username or parts.password:
        raise Misuse("a branch's URL is written to the journal; give credentials to the httpx client instead")
    if parts.query or parts.fragment:
        raise Misuse(f"a branch's URL takes no query or fragment: {url[:200]!r}; send such values in the payload")
    return url.rstrip("/")


def rewrite(url: str, bases: Mapping[str, str]) -> str:
    """Return `url` with its host replaced by the base URL that `bases` has for it."""
    parts = urlsplit(url)
    base = bases.get(parts.netloc)
    if base is None:
        return url
    to = urlsplit(base)
    return urlunsplit((to.scheme, to.netloc, to.path.rstrip("/") + parts.path, "", ""))
