"""What the service keeps and answers, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from ..delivery.envelope import Envelope
from .scopes import covers

__all__ = [
    "ROLES",
    "Action",
    "Changed",
    "Holder",
    "Items",
    "Outcome",
    "Past",
    "Published",
    "Role",
    "WallClock",
    "rfc3339",
]

Role: TypeAlias = Literal["reader", "operator", "admin"]
Action: TypeAlias = Literal["change", "rollback", "import", "expiry", "epoch"]
Outcome: TypeAlias = Literal["done", "refused", "unknown"]
Items: TypeAlias = Mapping[str, Mapping[str, Any]]
WallClock: TypeAlias = Callable[[], int]
"""Milliseconds since 1970. It stamps, and says when an `until` has passed; nothing else is decided by it."""

ROLES: dict[str, int] = {"reader": 0, "operator": 1, "admin": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who asks: the holder of a token.

    Attributes:
        token_id: of the token.
        name: what the token was called when it was made; it stands in history and audit.
        role: what the holder may do.
        scopes: where; patterns such as `shop/*`.
        expires_ms: when the token ends, or None.
    """

    token_id: str
    name: str
    role: Role
    scopes: tuple[str, ...]
    expires_ms: int | None = None

    def may(self, role: Role) -> bool:
        """Return whether the holder has this role or a higher one."""
        return ROLES[self.role] >= ROLES[role]

    def reaches(self, scope: str) -> bool:
        """Return whether the token is for this scope."""
        return covers(self.scopes, scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One item that a version changed; `old` or `new` is None where there is no such item."""

    section: str
    name: str
    old: Any
    new: Any

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"section": self.section, "name": self.name, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version that was written, or that would be (`dry_run`); `changes` is empty if nothing was to change."""

    envelope: Envelope
    changes: tuple[Changed, ...]
    dry_run: bool = False

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "scope": self.envelope.scope,
            "epoch": self.envelope.epoch,
            "version": self.envelope.version,
            "etag": self.envelope.etag,
            "dry_run": self.dry_run,
            "changes": [change.document() for change in self.changes],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A version in the history of a scope."""

    version: int
    epoch: int
    at: str
    who: str
    why: str
    action: str
    changes: tuple[Mapping[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "version": self.version,
            "epoch": self.epoch,
            "at": self.at,
            "who": self.who,
            "why": self.why,
            "action": self.action,
            "changes": list(self.changes),
        }


def rfc3339(milliseconds: int) -> str:
    """Return a moment as text, in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
