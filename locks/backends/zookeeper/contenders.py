"""What the name of a contender's node says: who, what it claims, and when it came; values, no I/O.

One listing of a resource must be enough to decide, so the whole claim is in the name: `<token>-<claim><number>`.
Mutexes and read-write locks use Curator's words (`lock-`, `__READ__`, `__WRIT__`), so that either side sees the
other's nodes as what they are (Z12). A node that nobody can read fills the resource: a stranger is never overtaken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from backstay.errors import Misuse
from backstay.locks.claims import WHOLE, Claim, Resource, Unit

__all__ = ["OLD_SIZE", "Contender", "claim_of", "earlier", "listed", "text_of"]

_STRANGER = (Unit("", WHOLE, WHOLE), Unit("*", WHOLE, WHOLE))
OLD_SIZE = _STRANGER
"""What a claim fills that was made at another size, where the units mean something else since."""

_NUMBER = re.compile(r"(-\d{9}|-?\d{10})$")
"""The server writes the number as `%010d` of a signed 32-bit integer, so below zero it may have nine digits."""
_PERMITS = re.compile(r"permits\.(\d+)\.(\d+)-")
_STRIPES = re.compile(r"stripes\.([0-9a-f]+)\.(\d+)-")
_ENTIRE = re.compile(r"whole\.(\d+)-")


class Contender(NamedTuple):
    """One node below a resource: somebody who holds it or waits for it."""

    node: str
    token: str
    number: int
    """The server's number, signed; only its distance to another one's means anything."""
    units: tuple[Unit, ...]
    size: int


def text_of(resource: Resource, claim: Claim) -> str:
    """Return a claim as it stands in a name.

    Raises:
        Misuse: this store has no word for it.
    """
    units = claim.units
    first = units[0]
    match resource.kind:
        case "lock" if first.capacity == 1:
            return "lock-"
        case "read-write lock" if first.capacity == WHOLE:
            return "__WRIT__" if first.weight == WHOLE else "__READ__"
        case "semaphore" if first.capacity == 0:
            return f"permits.{first.weight}.{claim.size}-"
        case "segmented lock" if first.label == "*" and first.weight == WHOLE:
            return f"whole.{claim.size}-"
        case "segmented lock" if first.label == "*":
            bits = sum(1 << int(unit.label) for unit in units[1:])
            return f"stripes.{bits:x}.{claim.size}-"
        case _:
            raise Misuse(f"{resource}: ZooKeeper nodes have no word for the claim {claim}")


def claim_of(text: str) -> tuple[tuple[Unit, ...], int]:
    """Return the units of a claim that stands in a name, and the size that its owner said."""
    if text.endswith("lock-"):
        return (Unit("", 1, 1),), 0
    if text.endswith("__READ__"):
        return (Unit("", 1, WHOLE),), 0
    if text.endswith("__WRIT__"):
        return (Unit("", WHOLE, WHOLE),), 0
    if (match := _PERMITS.search(text)) is not None:
        return (Unit("", int(match[1]), 0),), int(match[2])
    if (match := _ENTIRE.search(text)) is not None:
        return (Unit("*", WHOLE, WHOLE),), int(match[1])
    if (match := _STRIPES.search(text)) is not None:
        bits = int(match[1], 16)
        stripes = [Unit(str(place), 1, 1) for place in range(bits.bit_length()) if bits >> place & 1]
        return (Unit("*", 1, WHOLE), *stripes), int(match[2])
    return _STRANGER, 0


def listed(nodes: Iterable[str]) -> list[Contender]:
    """Read a listing; nodes without a number are no contenders."""
    found: list[Contender] = []
    for node in nodes:
        number = _NUMBER.search(node)
        if number is None:
            continue
        head, digits = node[: number.start()], number[1]
        if digits[0] == "-" and len(digits) == 11 and digits[1] not in "12":
            head, digits = head + "-", digits[1:]  # the hyphen before a number that is not below zero
        elif digits[0] == "-" and not head.endswith(("-", "_")):
            head, digits = head + "-", digits[1:]
        units, size = claim_of(head)
        token = re.sub(r"-(?:lock-|__READ__|__WRIT__|[a-z]+\.[0-9a-f.]+-)$", "", head)
        found.append(Contender(node, token, int(digits), units, size))
    return found


def earlier(contenders: Iterable[Contender], mine: Contender) -> list[Contender]:
    """Return those who came before `mine`, in order; numbers wrap round after 2^31 - 1 (Z2)."""
    before = [(_distance(each.number, mine.number), each) for each in contenders if each.node != mine.node]
    return [each for distance, each in sorted(before, key=lambda pair: pair[0]) if distance < 0]


def _distance(number: int, origin: int) -> int:
    return (number - origin + (1 << 31)) % (1 << 32) - (1 << 31)
