"""Secrets of tokens and sessions: made here, kept as digests.

A secret is 256 random bits. Its SHA-256 can be neither reversed nor guessed: there is no dictionary of such
secrets, so a slow hash as for passwords would cost milliseconds a request and add nothing. People never choose one.
The id in front finds the row; what is secret is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

__all__ = ["Minted", "digest_of", "matches", "mint", "split"]

_FORM = re.compile(r"(bst|bss)_([0-9a-f]{12})_([A-Za-z0-9_\-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A new secret: `text` is shown once, `id` and `digest` are kept."""

    id: str
    text: str
    digest: str

    def __repr__(self) -> str:
        return f"Minted({self.id!r})"


def mint(prefix: str = "bst") -> Minted:
    """Return a new secret; `bst` is a token, `bss` a session."""
    made, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return Minted(id=made, text=f"{prefix}_{made}_{secret}", digest=digest_of(secret))


def split(text: str, prefix: str = "bst") -> tuple[str, str] | None:
    """Return id and secret of what a client sent, or None if it has another form."""
    match = _FORM.fullmatch(text)
    return None if match is None or match[1] != prefix else (match[2], match[3])


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, digest: str) -> bool:
    """Return whether `digest` is that of `secret`; takes as long either way."""
    return hmac.compare_digest(digest_of(secret), digest)
