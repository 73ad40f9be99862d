"""The section `levels` of a document: orders by hand, settings and actions, by resource.

{"catalogue": {"force": "severe", "pin": {"level": "error", "until": "2026-11-24T22:00:00Z"},
               "automatic": "warning", "reason": "...", "thresholds": {"errors": {"warning": 0.1}},
               "actions": {"read": {"error": "local_cache"}, "hide": {"recommendations": "warning"}}}}
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from backstay.errors import Misuse

from ..policy import from_mapping
from .actions import Actions
from .manual import Orders, Pin
from .settings import Bands, LevelSettings
from .words import Level, level_of

__all__ = ["Applying", "Entry", "entry_of"]

logger = logging.getLogger("backstay.resilience")

_KEYS = ("force", "pin", "automatic", "thresholds", "actions", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a document says of one resource."""

    orders: Orders
    thresholds: Mapping[str, Any]
    actions: Mapping[str, Any]

    def settings(self, base: LevelSettings) -> LevelSettings:
        """Return `base` with the document's values in place of its own.

        Raises:
            Misuse: a name is unknown, or a value does not fit the others.
        """
        merged: dict[str, Any] = {each.name: getattr(base, each.name) for each in dataclasses.fields(base)}
        for name, value in self.thresholds.items():
            there, table = merged.get(name), _table(value)
            if isinstance(there, Bands) and table is not None:
                merged[name] = {**dataclasses.asdict(there), **table}
            else:
                merged[name] = value
        return from_mapping(LevelSettings, merged, "thresholds")

    def acts(self, base: Actions, old: Actions) -> Actions:
        """Return `base` with the document's actions; a table that names an unknown level leaves `old`'s (DG-5).

        Raises:
            Misuse: anything else in it is not understood.
        """
        merged: dict[str, Any] = {each.name: getattr(base, each.name) for each in dataclasses.fields(base)}
        for name, value in self.actions.items():
            table = _table(value)
            if name not in ("read", "write", "hide"):
                words: list[Any] = [value]
            elif table is None:
                raise Misuse(f"actions: {name} must be a table, got {value!r}")
            else:
                words = list(table.values() if name == "hide" else table)
            if name in merged and not all(word is None or _known(word) for word in words):
                logger.warning("actions: %s names a level that is not known here: %r; the old one stays", name, value)
                merged[name] = getattr(old, name)
            elif table is not None and name == "hide":
                merged[name] = {**merged[name], **table}
            elif table is not None and name in merged:
                merged[name] = {**merged[name], **{level_of(level, name): word for level, word in table.items()}}
            else:
                merged[name] = value
        return from_mapping(Actions, merged, "actions")


class Applying:
    """A `Change` of the delivery's port."""

    def __init__(self, put: Callable[[Mapping[str, Entry]], Mapping[str, Entry]], new: Mapping[str, Entry]) -> None:
        self._put = put
        self._new = new
        self._old: Mapping[str, Entry] | None = None

    def apply(self) -> None:
        """Let the section count."""
        self._old = self._put(self._new)

    def undo(self) -> None:
        """Go back to what was before."""
        if self._old is not None:
            self._put(self._old)
            self._old = None


def entry_of(name: str, given: Any, *, wall: float, now: float) -> Entry:
    """Return what a document says of the resource `name`.

    Args:
        name: of the resource.
        given: the entry.
        wall: seconds since 1970, for the end of a pin.
        now: the monotonic seconds of the same moment.

    Raises:
        Misuse: it is not understood.
    """
    what = f"level {name!r}"
    entry = _table(given)
    if entry is None:
        raise Misuse(f"{what} must be a table such as {{force = 'severe'}}, got {given!r}")
    for key in entry:
        if key not in _KEYS:
            raise Misuse(f"{what} has no setting {key!r}; known: {', '.join(_KEYS)}")
    for key in ("thresholds", "actions"):
        if _table(entry.get(key) or {}) is None:
            raise Misuse(f"{what}: {key} must be a table, got {entry[key]!r}")
    orders = Orders(
        force=_level(entry.get("force"), f"{what}: force"),
        pin=_pin(entry.get("pin"), what, wall, now),
        automatic=_level(entry.get("automatic"), f"{what}: automatic"),
    )
    return Entry(orders=orders, thresholds=entry.get("thresholds") or {}, actions=entry.get("actions") or {})


def _level(given: Any, what: str) -> Level | None:
    return None if given is None else level_of(given, what)


def _pin(given: Any, what: str, wall: float, now: float) -> Pin | None:
    if given is None:
        return None
    pin = _table(given)
    if pin is None or set(pin) != {"level", "until"} or not isinstance(pin["until"], str):
        raise Misuse(f"{what}: a pin needs level and until, as in {{level = 'severe', until = '2026-11-24T22:00:00Z'}}")
    try:
        until = datetime.fromisoformat(pin["until"])
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise Misuse(f"{what}: until must be a time with its zone, as in 2026-11-24T22:00:00Z, got {pin['until']!r}")
    return Pin(level_of(pin["level"], f"{what}: pin"), now + until.timestamp() - wall)


def _table(value: Any) -> Mapping[Any, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _known(word: Any) -> bool:
    try:
        level_of(word, "level")
    except Misuse:
        return False
    return True
