"""Which slot of a Redis Cluster a key is in, and which node serves which slots. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["SLOTS", "Topology", "slot_of", "topology"]

SLOTS = 16384


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """Return the slot of a key: of its hash tag, the part between the first `{` and the next `}`, if that has one."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS  # CRC-16/XMODEM, as the Cluster's specification has it


class Topology(NamedTuple):
    """What one node told of the Cluster."""

    masters: dict[int, tuple[str, int]]
    """The master of each slot that is served."""
    nodes: frozenset[tuple[str, int]]
    """All nodes, replicas as well: any of them can be asked."""


def topology(reply: Any, asked: tuple[str, int]) -> Topology:
    """Read the answer to CLUSTER SLOTS: ranges, each with its first and last slot, its master and its replicas.

    Raises:
        ValueError: it is nothing of the kind.
    """
    masters: dict[int, tuple[str, int]] = {}
    nodes: set[tuple[str, int]] = set()
    try:
        for first, last, master, *replicas in reply:
            served = _address(master, asked)
            nodes.update([served, *(_address(replica, asked) for replica in replicas)])
            masters.update(dict.fromkeys(range(int(first), int(last) + 1), served))
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"no answer to CLUSTER SLOTS: {error}") from error
    return Topology(masters, frozenset(nodes))


def _address(node: Sequence[Any], asked: tuple[str, int]) -> tuple[str, int]:
    host, port = node[0], node[1]
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    # A node that does not know its own name leaves it out: it is the one that was asked.
    return (name if name not in ("", "?") else asked[0]), int(port)
