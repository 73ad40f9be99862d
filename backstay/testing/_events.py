"""What happened to whom and when: the lines of a history, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from backstay.errors import Misuse
from backstay.locks.claims import MUTEX, Claim, Unit

__all__ = ["Action", "Event", "Phase"]

VERSION = 1


class Phase(Enum):
    """Where an operation stands, or what a holder saw."""

    INVOKE = "invoke"
    RETURN = "return"
    FAIL = "fail"
    """It was not done: refused, lost before, or never sent; `why` says which."""
    UNKNOWN = "unknown"
    """It may or may not have been done."""
    LOOK = "look"
    """The holder asked its lease whether it is valid; `valid` has the answer."""


class Action(Enum):
    """What was asked for."""

    ACQUIRE = "acquire"
    RELEASE = "release"
    EXTEND = "extend"
    LESSEN = "lessen"
    DIE = "die"
    """The client ended without giving anything back; written by whoever saw it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a history.

    Args:
        at: seconds, by one clock for the whole history.
        phase: where the operation stands.
        action: which operation.
        client: who: a thread, a task, a process.
        attempt: which acquisition this belongs to; empty for `DIE`.
        resource: what is to be held.
        claim: how much of it.
        ttl: seconds that the lease outlives its holder; None where it has no end.
        fence: the fence of the grant, where the lock has fences.
        until: until when the lease was promised then; None where nobody knows.
        valid: what the holder's lease said of itself, where it was asked.
        why: what a failure was: `refused` by others who hold, `lost`, or the name of the error.
    """

    at: float
    phase: Phase
    action: Action
    client: str
    attempt: str = ""
    resource: str = ""
    claim: Claim = MUTEX
    ttl: float | None = None
    fence: int | None = None
    until: float | None = None
    valid: bool | None = None
    why: str = ""

    def line(self) -> str:
        """Return it as one line of JSON, without what says nothing."""
        fields = {name: value for name, value in asdict(self).items() if value is not None and value != ""}
        fields |= {"v": VERSION, "phase": self.phase.value, "action": self.action.value}
        if self.claim == MUTEX:
            del fields["claim"]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def parsed(cls, line: str) -> Event:
        """Return the event of a line.

        Raises:
            Misuse: it is no event, or of a version that this one does not know.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            version = fields.pop("v")
            if version != VERSION:
                raise Misuse(f"a history of version {version}; this Backstay reads version {VERSION}")
            phase, action = Phase(fields.pop("phase")), Action(fields.pop("action"))
            claim = fields.pop("claim", None)
            if claim is not None:
                units, size = claim
                fields["claim"] = Claim(tuple(Unit(*unit) for unit in units), size)
            return cls(phase=phase, action=action, **fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, Misuse):
                raise
            raise Misuse(f"not a line of a history: {line[:80]!r}") from error
