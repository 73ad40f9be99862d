"""A change as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from backstay.errors import Misuse

from .differences import apply
from .fields import base_of, flag_of, moment_of, only, reason_of
from .values import Items

__all__ = ["Patch"]

MOST_CHANGES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Changes of items, why, and until when.

    Attributes:
        base: the version that it was made for.
        reason: why; switches and levels show it.
        until: RFC 3339, for switches and pins of levels, or None.
        changes: (section, name, value, whether it is removed).
        dry_run: only say what would change.
    """

    base: int
    reason: str
    until: str | None
    changes: tuple[tuple[str, str, Any, bool], ...]
    dry_run: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], *, now: int) -> Patch:
        """Read a change that is made `now`, in milliseconds since 1970.

        Raises:
            Misuse: anything in it is not understood.
        """
        only(given, "base", "reason", "until", "changes", "dry_run")
        found = given.get("changes")
        listed = cast("Sequence[Any]", found) if isinstance(found, list) else ()
        if not 1 <= len(listed) <= MOST_CHANGES:
            example = '{"section": "switches", "name": "x", "value": true}'
            raise Misuse(f"'changes' is a list of 1 to {MOST_CHANGES:,} such as {example}")
        changes = tuple(_change(each) for each in listed)
        if len({(section, name) for section, name, _, _ in changes}) != len(changes):
            raise Misuse("an item stands in 'changes' twice")
        until = given.get("until")
        if until is not None:
            if moment_of(until) <= now:
                raise Misuse(f"'until' {until} has passed already")
            stuck = [name for section, name, _, removed in changes if section == "pipelines" or removed]
            if stuck:
                raise Misuse(f"'until' is for switches and pins of levels; {stuck[0]!r:.80} cannot run out")
        return cls(
            base=base_of(given),
            reason=reason_of(given),
            until=until,
            changes=changes,
            dry_run=flag_of(given, "dry_run"),
        )

    def over(self, items: Items) -> dict[str, dict[str, Any]]:
        """Return `items` with the changes."""
        return apply(
            items, [(section, name, self._dressed(section, value), gone) for section, name, value, gone in self.changes]
        )

    def _dressed(self, section: str, value: Any) -> Any:
        """Return a value with the reason and the end that the change gives."""
        if section == "switches":
            if not isinstance(value, bool | dict):
                return value  # for the validation to refuse
            given = {"enabled": value} if isinstance(value, bool) else cast("dict[str, Any]", value)
            dressed = {"reason": self.reason, **given}
            return dressed if self.until is None else {**dressed, "until": self.until}
        if section == "levels" and isinstance(value, dict):
            table = {"reason": self.reason, **cast("dict[str, Any]", value)}
            pin = table.get("pin")
            if self.until is None:
                return table
            if isinstance(pin, dict):
                return {**table, "pin": {**cast("dict[str, Any]", pin), "until": self.until}}
            raise Misuse("'until' needs a pin: {'pin': {'level': 'severe'}}; a force stays until it is taken away")
        return value


def _change(given: Any) -> tuple[str, str, Any, bool]:
    if not isinstance(given, dict):
        raise Misuse(f"a change is a table such as {{'section': 'switches', ...}}, got {given!r:.60}")
    entries = cast("dict[str, Any]", given)
    only(entries, "section", "name", "value", "remove")
    section, name = entries.get("section"), entries.get("name")
    if not isinstance(section, str) or not isinstance(name, str):
        raise Misuse("a change names 'section' and 'name'")
    removed = flag_of(entries, "remove")
    if removed == ("value" in entries):
        raise Misuse(f"{name!r:.80}: give either 'value' or 'remove': true")
    return section, name, entries.get("value"), removed
