"""What an instance says of itself every ten seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from backstay.errors import Misuse

from .scopes import check_scope

__all__ = ["Heartbeat"]

MOST_LEVELS = 1_000
_LARGEST_NUMBER = 1 << 53  # JSON's numbers are exact up to here in browsers


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One report.

    Attributes:
        scope: whose document the instance runs.
        instance: host, process and nonce.
        epoch: of the document in force; 0 before the first.
        version: of the document in force; 0 before the first.
        applied_at: when it came into force, as the instance tells it.
        state: `starting`, `ready`, `stale` or `error`.
        levels: level by resource.
        signals: what the levels were judged by, by resource; `cause` in it is shown with a change of level.
        delay_s: seconds from issue to effect of the last document, or None.
    """

    scope: str
    instance: str
    epoch: int
    version: int
    applied_at: str
    state: str
    levels: Mapping[str, str]
    signals: Mapping[str, Any]
    delay_s: float | None

    @classmethod
    def of(cls, given: object) -> Heartbeat:
        """Read a report.

        Raises:
            Misuse: anything in it is not understood.
        """
        if not isinstance(given, dict):
            raise Misuse('a heartbeat is a table such as {"scope": "shop/production", "instance": "web-1", ...}')
        entries = cast("dict[str, Any]", given)
        delay = entries.get("delay_s")
        if delay is not None and (type(delay) not in (int, float) or not math.isfinite(delay) or abs(delay) > 1e9):
            raise Misuse(f"delay_s is seconds or null, got {delay!r:.40}")
        levels, signals = _table(entries, "levels"), _table(entries, "signals")
        if len(levels) > MOST_LEVELS:
            raise Misuse(f"a heartbeat tells of at most {MOST_LEVELS:,} levels, this one of {len(levels):,}")
        if len(json.dumps(signals)) > 64_000:
            raise Misuse("the signals of a heartbeat take at most 64,000 characters")
        return cls(
            scope=check_scope(entries.get("scope")),
            instance=_text(entries, "instance", 200),
            epoch=_number(entries, "epoch"),
            version=_number(entries, "version"),
            applied_at=_text(entries, "applied_at", 40, empty=True),
            state=_text(entries, "state", 20).lower(),
            levels={_checked(name, "a resource", 100): _checked(level, name, 20) for name, level in levels.items()},
            signals=signals,
            delay_s=None if delay is None else float(delay),
        )

    def cause(self, resource: str) -> str:
        """Return why the resource has its level, as far as the instance says."""
        found = self.signals.get(resource)
        cause = cast("dict[str, Any]", found).get("cause") if isinstance(found, dict) else None
        return cause[:500] if isinstance(cause, str) and "\0" not in cause else ""


def _table(entries: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = entries.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Misuse(f"{name} is a table, got {found!r:.40}")
    return cast("dict[str, Any]", found)


def _number(entries: Mapping[str, Any], name: str) -> int:
    found = entries.get(name, 0)
    if type(found) is not int or not 0 <= found < _LARGEST_NUMBER:
        raise Misuse(f"{name} is a whole number, got {found!r:.40}")
    return found


def _text(entries: Mapping[str, Any], name: str, length: int, *, empty: bool = False) -> str:
    found = entries.get(name)
    if found is None and empty:
        return ""
    return _checked(found, name, length, empty=empty)


def _checked(found: Any, name: str, length: int, *, empty: bool = False) -> str:
    if not isinstance(found, str) or len(found) > length or not found.isprintable() or not (found or empty):
        raise Misuse(f"{name} is a text of at most {length} printable characters, got {found!r:.80}")
    return found
