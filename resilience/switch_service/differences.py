"""What differs between two documents, and what a list of changes makes of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from .values import Changed, Items

__all__ = ["apply", "differences", "same"]


def same(left: Any, right: Any) -> bool:
    """Return whether two values of JSON are the same; 1, 1.0 and true are three values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        table = cast("dict[str, Any]", left)
        return table.keys() == right.keys() and all(same(value, right[key]) for key, value in table.items())
    if isinstance(left, list):
        listed = cast("Sequence[Any]", left)
        return len(listed) == len(right) and all(map(same, listed, right))
    return bool(left == right)


def differences(old: Items, new: Items) -> tuple[Changed, ...]:
    """Return what was added, changed and removed, in order of section and name."""
    found: list[Changed] = []
    for section in sorted({*old, *new}):
        before, after = old.get(section, {}), new.get(section, {})
        found += [
            Changed(section=section, name=name, old=before.get(name), new=after.get(name))
            for name in sorted({*before, *after})
            if name not in before or name not in after or not same(before[name], after[name])
        ]
    return tuple(found)


def apply(items: Items, changes: Iterable[tuple[str, str, Any, bool]]) -> dict[str, dict[str, Any]]:
    """Return `items` after changes of (section, name, value, whether it is removed); sections left empty go."""
    made: dict[str, dict[str, Any]] = {section: dict(entries) for section, entries in items.items()}
    for section, name, value, removed in changes:
        entries = made.setdefault(section, {})
        if removed:
            entries.pop(name, None)
        else:
            entries[name] = value
    return {section: entries for section, entries in made.items() if entries}
