"""The fence as a header of a request or message, version 1.  Pure.

    Backstay-Fence: 1;order%3A42;1795804000000017

Version, name of the lock percent-encoded as UTF-8, fence in decimal digits; several are divided by commas. The
reader refuses what it does not know: a fence that was misread would let a late write pass.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from backstay.errors import Misuse

from .errors import FenceMalformed, FenceMissing
from .token import Fenced, FencingToken, token_of

__all__ = ["HEADER", "MOST", "VERSION", "headers", "read", "token_for", "write"]

HEADER = "Backstay-Fence"
VERSION = "1"
MOST = 8
"""Fences in one header."""

_ENTRY_LIMIT = 6400  # characters: a name of 512 four-byte characters, each byte written with three, and a fence
_ENTRY = re.compile(r"(?P<version>[0-9]{1,4});(?P<name>[A-Za-z0-9._~%-]+);(?P<fence>[1-9][0-9]{0,18})", re.ASCII)
_ESCAPE = re.compile(r"%(?![0-9A-F]{2})")


def write(*leases: Fenced) -> str:
    """Return the header's value for the leases under which a request is sent.

    Raises:
        Misuse: there are none, or more than 8.
    """
    if not 0 < len(leases) <= MOST:
        raise Misuse(f"the header {HEADER} carries 1 to {MOST} fences, got {len(leases)}")
    tokens = [token_of(lease) for lease in leases]
    return ",".join(f"{VERSION};{quote(token.name, safe='')};{token.fence}" for token in tokens)


def headers(*leases: Fenced) -> dict[str, str]:
    """Return what to add to the headers of a request that is sent while the locks are held.

        httpx.post(url, json=payment, headers=headers(lease))

    Raises:
        Misuse: no lease is given, or more than 8.
    """
    return {HEADER: write(*leases)}


def read(value: str) -> tuple[FencingToken, ...]:
    """Return the tokens of a header's value.

    Raises:
        FenceMalformed: it is not what `write` makes.
    """
    entries = value.split(",", MOST) if len(value) <= MOST * _ENTRY_LIMIT else []
    if not 0 < len(entries) <= MOST:
        raise FenceMalformed(f"the header {HEADER} must have 1 to {MOST} fences")
    tokens = tuple(_token(entry.strip(" \t")) for entry in entries)
    if len({token.name for token in tokens}) != len(tokens):
        raise FenceMalformed(f"the header {HEADER} names a lock twice")
    return tokens


def token_for(name: str, value: str | None) -> FencingToken:
    """Return the token of lock `name` from a header's value, None where the request has no such header.

    Raises:
        FenceMissing: the header is not there or names other locks only.
        FenceMalformed: it cannot be read.
    """
    if value is None:
        raise FenceMissing(f"send the header {HEADER} with the fence of lock {name!r}")
    for token in read(value):
        if token.name == name:
            return token
    raise FenceMissing(f"the header {HEADER} has no fence of lock {name!r}, which guards this")


def _token(entry: str) -> FencingToken:
    match = _ENTRY.fullmatch(entry)
    if match is None or _ESCAPE.search(match["name"]):
        raise FenceMalformed(f"the header {HEADER} must look like {VERSION};order%3A42;17, got {entry[:80]!r}")
    if match["version"] != VERSION:
        raise FenceMalformed(f"the header {HEADER} has version {match['version']}; known here: {VERSION}")
    try:
        return FencingToken(name=unquote_to_bytes(match["name"]).decode(), fence=int(match["fence"]))
    except (Misuse, UnicodeDecodeError) as error:
        raise FenceMalformed(f"the header {HEADER}: {error}") from None
