"""What in a document was to last until a moment, and what is left when the moment has passed.

Readers fall back by themselves at that moment. The version that the service writes says so in the history, and takes
away what no longer means anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from backstay.errors import Misuse

from .fields import moment_of
from .values import Items

__all__ = ["expired", "next_end"]


def next_end(items: Items) -> int | None:
    """Return the first moment at which something ends, in milliseconds since 1970, or None."""
    return min((end for _, _, end in _ends(items)), default=None)


def expired(items: Items, now: int) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the document without what has ended by `now`, and the names of that."""
    left: dict[str, dict[str, Any]] = {section: dict(entries) for section, entries in items.items()}
    over: list[str] = []
    for section, name, end in _ends(items):
        if end > now:
            continue
        over.append(name)
        remains = _without_end(left[section][name]) if section == "switches" else _without_pin(left[section][name])
        if remains is None:
            del left[section][name]
        else:
            left[section][name] = remains
    return {section: entries for section, entries in left.items() if entries}, over


def _ends(items: Items) -> Iterator[tuple[str, str, int]]:
    for section in ("switches", "levels"):
        for name, value in items.get(section, {}).items():
            if isinstance(value, Mapping):
                table = cast("Mapping[str, Any]", value)
                held: Any = table if section == "switches" else table.get("pin")
                until = cast("Mapping[str, Any]", held).get("until") if isinstance(held, Mapping) else None
                try:
                    if until is not None:
                        yield section, name, moment_of(until)
                except Misuse:
                    continue  # readers do not understand it either: it never ends


def _without_end(switch: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a switch of variants at its default; one of on and off goes, so that the default of the code holds."""
    if "variants" not in switch:
        return None
    return {key: value for key, value in switch.items() if key in ("variants", "default", "off")}


def _without_pin(level: Mapping[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in level.items() if key != "pin"} or None
