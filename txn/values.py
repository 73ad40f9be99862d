"""Values that travel between coordinator, journal and participants.  Pure: no I/O, no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeAlias

from backstay.errors import Misuse

__all__ = [
    "LIMIT",
    "Answer",
    "Branch",
    "Payload",
    "Phase",
    "Reply",
    "Target",
    "digest",
    "dump",
    "load",
]

LIMIT = 64 * 1024
"""Bytes of JSON that one payload, result or body may have."""

Payload: TypeAlias = Mapping[str, Any]


class Phase(StrEnum):
    """The three requests of TCC."""

    TRY = "try"
    CONFIRM = "confirm"
    CANCEL = "cancel"


class Answer(StrEnum):
    """What can come back from one request to one branch.

    Only DONE means that the request took effect. REFUSED, INVALID and UNSENT mean that it certainly did not.
    UNKNOWN and ALARM are neither: whoever gets them must not guess.
    """

    DONE = "done"
    REFUSED = "refused"
    INVALID = "invalid"
    UNSENT = "unsent"
    UNKNOWN = "unknown"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a branch lives: an in-process action by name, or a URL that serves try, confirm and cancel."""

    kind: str
    address: str

    def __post_init__(self) -> None:
        if self.kind not in ("action", "http"):
            raise Misuse(f"unknown kind of branch {self.kind!r}; this Backstay knows 'action' and 'http'")
        if not self.address or len(self.address) > 1000:
            raise Misuse(f"a branch's address must have 1 to 1000 characters, got {len(self.address)}")

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One request to one branch: what a participant's function gets to see.

    `(gtrid, id)` is the same in all three phases and in every repetition: a good key for rows that try
    writes and confirm or cancel must find. `result` is, in confirm and cancel, what try returned.
    """

    gtrid: str
    id: str
    phase: Phase
    payload: Payload = field(default_factory=dict[str, Any])
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one request; `text` is for people, `detail` for programs."""

    answer: Answer
    result: Any = None
    text: str = ""
    detail: Any = None
    error: BaseException | None = None


def dump(value: Any, *, what: str) -> str:
    """Return the one canonical JSON text of `value`.

    Raises:
        Misuse: it is no JSON (a Decimal, a datetime, NaN, ...) or longer than `LIMIT`; `what` names it in the text.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise Misuse(f"{what} must be plain JSON: {error}; send a Decimal or a date as text") from None
    size = len(text) if text.isascii() else len(text.encode())
    if size > LIMIT:
        raise Misuse(f"{what} has {size} bytes of JSON, more than {LIMIT}; store it and send its id")
    return text


def load(text: str | None) -> Any:
    """Return the value of a JSON text; None for None."""
    return None if text is None else json.loads(text)


def digest(payload: Payload) -> str:
    """Return a fingerprint by which a repeated request is compared with the first."""
    return sha256(dump(dict(payload), what="a payload").encode()).hexdigest()
