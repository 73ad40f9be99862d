"""Names that are never used twice: of a coordinator process, and of a transaction."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable

__all__ = ["begun", "gtrids", "owner"]


def owner() -> str:
    """Return host-pid-nonce: an operator finds the process by it, and a restarted or forked one has another."""
    host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:100] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(6)}"


def gtrids(name: str) -> Callable[[int, float], str]:
    """Return a source of global transaction ids, at most 64 ASCII characters each, for an owner's name.

    They hold the owner's nonce and the lease's epoch, for people who read them, the second of their beginning
    by the journal's clock, for barriers (`begun`), and 96 random bits.
    """
    nonce = name.rpartition("-")[2][:12]

    def make(epoch: int, seconds: float) -> str:
        return f"tcc-{nonce}-{epoch}-{max(0, int(seconds)):x}-{secrets.token_hex(12)}"

    return make


_GTRID = re.compile(r"tcc-[0-9a-z]+-[0-9]+-(?P<seconds>[0-9a-f]{1,12})-[0-9a-f]+")


def begun(gtrid: str) -> int | None:
    """Return the second in which a transaction began, by its journal's clock; None for an id made elsewhere."""
    found = _GTRID.fullmatch(gtrid)
    return None if found is None else int(found["seconds"], 16)
