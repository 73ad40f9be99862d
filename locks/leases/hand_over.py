"""A held lock on its way to another process: the text that goes, and the two steps (criterion O4).

Detaching renews the lease once, so that a whole ttl is left for the way, ends everything that this side could still
ask for, and writes down what the other side needs. Attaching renews it there under the same token: what the store
confirms is held, with the same fence, and what it does not know any more was lost on the way. Nobody else can be
granted the lock between the two while the ttl lasts.

The text is a capability: whoever has it holds the lock. It is to be attached once; the store cannot tell a second one
who attaches the same text from the first. It is JSON with a version, and nothing in it is ever executed.
"""

from __future__ import annotations

import json
from math import inf
from typing import Any

from backstay.errors import Misuse

from ..claims import KINDS, Claim, Resource, Unit
from ..options import terms
from .lease import Grant
from .protocol import LeaseProtocol

__all__ = ["LIMIT", "attached", "detached", "read", "written"]

VERSION = 1

LIMIT = 65536
"""Characters that the text has at most."""


async def detached(protocol: LeaseProtocol, grant: Grant, ttl: float) -> str:
    """End a lease here without giving the lock back, and return the text that goes on with it.

    Raises:
        Misuse: the store's grants live with its session.
        LockLost: the lease has ended.
        Unavailable, OutcomeUnknown: the store did not answer; it is held here as before.
    """
    written(grant, protocol.runtime.now())  # what cannot be written must not be ended
    await protocol.part(grant, ttl)
    return written(grant, protocol.runtime.now())


async def attached(protocol: LeaseProtocol, text: str, renew: bool) -> Grant:
    """Go on with a lease that was detached elsewhere.

    Raises:
        Misuse: the text is no such text, or it was attached in this process already.
        LockLost: it ended on the way.
        Unavailable, OutcomeUnknown: the store did not answer; attaching again is safe.
    """
    resource, token, fence, ttl, claim, left = read(text)
    return await protocol.adopt(resource, token, fence, ttl, claim, renew, left)


def written(grant: Grant, now: float) -> str:
    """Return the text of a grant."""
    text = json.dumps(
        {
            "v": VERSION,
            "kind": grant.resource.kind,
            "name": grant.resource.name,
            "token": grant.token,
            "fence": grant.fence,
            "ttl": grant.ttl,
            "units": [list(unit) for unit in grant.claim.units],
            "size": grant.claim.size,
            "hold": None if grant.cap == inf else max(0.0, grant.cap - now),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
    if len(text) > LIMIT:
        raise Misuse(f"{grant.resource} holds too many stripes to be handed over in {LIMIT} characters")
    return text


def read(text: str) -> tuple[Resource, str, int, float, Claim, float]:
    """Return resource, token, fence, ttl, claim and what is left of max_hold.

    Raises:
        Misuse: it is not what `detach()` returns.
    """
    given: Any = text
    if not isinstance(given, str) or len(given) > LIMIT:
        raise Misuse(f"attach() takes the text that detach() returned, got {type(given).__name__}")
    try:
        found: Any = json.loads(given)
        if found["v"] != VERSION:
            raise Misuse(f"this hand-over has version {found['v']!r}, and this library reads {VERSION}; upgrade it")
        units = tuple(
            Unit(_text(label), _whole(weight), _whole(capacity)) for label, weight, capacity in found["units"]
        )
        resource = Resource(_text(found["name"]), _text(found["kind"]))
        claim = Claim(units, _whole(found["size"]))
        token, fence, ttl = _text(found["token"]), _whole(found["fence"]), terms(found["ttl"]).ttl
        left = inf if found["hold"] is None else float(found["hold"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, Misuse):
            raise
        raise Misuse("attach() takes the text that detach() returned; this is another, or a part of one") from error
    if resource.kind not in KINDS or not units or not token or not resource.name or not left >= 0.0:
        raise Misuse("attach() takes the text that detach() returned; this one does not name a held lock")
    return resource, token, fence, ttl, claim, left


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("a whole number is wanted")
    return value
