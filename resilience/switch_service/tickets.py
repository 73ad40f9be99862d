"""Tickets for event streams: browsers open those without headers, so the right to listen stands in the URL.

A ticket says that something changed may be told, for one scope, until a moment; it opens nothing else. It is signed
with a key that all replicas of a database share.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any, cast

__all__ = ["read_ticket", "ticket"]


def ticket(key: bytes, scope: str, token_id: str, until_ms: int) -> str:
    """Return a ticket for `scope`, good as long as the token is, and no longer than until the moment."""
    body = base64.urlsafe_b64encode(json.dumps([scope, token_id, until_ms]).encode()).rstrip(b"=")
    return f"{body.decode()}.{_signed(key, body)}"


def read_ticket(key: bytes, text: str, now_ms: int) -> tuple[str, str] | None:
    """Return scope and token id of a ticket, or None if it is none of ours or has ended."""
    body, _, signature = text.partition(".")
    if len(text) > 1000 or not hmac.compare_digest(_signed(key, body.encode()).encode(), signature.encode()):
        return None
    try:
        found: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None
    scope, token_id, until_ms = cast("tuple[str, str, int]", found)
    return (scope, token_id) if until_ms > now_ms else None


def _signed(key: bytes, body: bytes) -> str:
    return hmac.new(key, b"event stream:" + body, hashlib.sha256).hexdigest()
