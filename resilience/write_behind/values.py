"""What is written, what came of it, and where a turn of the cache stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from backstay.errors import Misuse

__all__ = [
    "HIGHEST",
    "Balances",
    "Entry",
    "Phase",
    "Reading",
    "Receipt",
    "Reply",
    "Row",
    "Source",
    "Status",
    "check_amount",
    "check_text",
]

HIGHEST = 10**15
"""The highest balance: a script's numbers are exact up to 2^53."""

Source: TypeAlias = Literal["cache", "database"]
Row: TypeAlias = tuple[str, int, int]
"""A key, its balance, and the number of its last operation."""


class Phase(Enum):
    """Where the cache stands in its turn."""

    NONE = "none"
    """It knows of no turn."""
    LOADING = "loading"
    OPEN = "open"
    """It accepts operations; the database follows."""
    DRAINING = "draining"
    """It accepts none any more; the database still follows."""
    CLOSED = "closed"
    """Both were found equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balances:
    """Which column of which table holds the balances; the table is yours.

    Args:
        table: its name, with the schema before a dot where it has one.
        key: the column with a unique key: text, or whole numbers with `kind=int`.
        balance: the column with the balance: BIGINT, NOT NULL, never negative.
        kind: makes a value of the key column from a key's text.
    """

    table: str
    key: str
    balance: str
    kind: Callable[[str], Any] = str

    def __post_init__(self) -> None:
        for what, text in (("table", self.table), ("key", self.key), ("balance", self.balance)):
            given: Any = text
            if not isinstance(given, str) or not given or any(not part for part in given.split(".")):
                raise Misuse(f"Balances: {what} must be a name, got {text!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An accepted operation on its way to the database.

    Args:
        id: of its place in the stream.
        op: the operation's own id.
        key: whose balance.
        delta: how much was added; negative for a deduction.
        seq: its number among those of the key.
        fence: the turn in which it was accepted.
        left: the balance behind it.
    """

    id: str
    op: str
    key: str
    delta: int
    seq: int
    fence: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An operation that is done.

    Args:
        op, key, delta, left: as for `Entry`.
        source: who accepted it.
        repeated: it was done by an earlier call with the same id, and this is the answer of then.
    """

    op: str
    key: str
    delta: int
    left: int
    source: Source
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A store's answer to one operation: a word, the balance behind it or what else the word needs."""

    word: str
    detail: str = "0"
    seq: str = "0"
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A balance, and how far the database is behind with it.

    Args:
        balance: what can be spent.
        source: who says so: the cache while it has its turn, so that one's own operations are seen.
        pending: operations that are not in the database yet.
        frozen: why operations on this key are refused, if they are.
    """

    balance: int
    source: Source
    pending: int = 0
    frozen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where the turn stands, and how far the database is behind.

    Args:
        phase, fence: of the cache.
        pending: accepted operations that the database does not have yet, without those that are parked.
        parked: those that could not be applied.
        frozen: keys that wait for somebody to look.
        lag: age of the oldest pending operation, in seconds.
    """

    phase: Phase
    fence: int
    pending: int
    parked: int
    frozen: int
    lag: float


def check_text(what: str, text: object, longest: int = 200) -> str:
    """Return a name that can stand in a key of Redis and in a column.

    Raises:
        Misuse: it cannot.
    """
    if not isinstance(text, str) or not 0 < len(text) <= longest or not text.isprintable() or text != text.strip():
        raise Misuse(f"{what} must be 1 to {longest} printable characters, no space at its ends; got {text!r:.80}")
    return text


def check_amount(amount: object) -> int:
    """Return an amount that can be deducted or given back.

    Raises:
        Misuse: it is no whole number from 1 to 10^15.
    """
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= HIGHEST:
        raise Misuse(f"amount must be a whole number from 1 to 10^15, got {amount!r}; count the smallest unit (cents)")
    return amount
