"""Switch documents: what a source delivers, checked as a whole before any of it counts.

    schema = 1                       # may be left out
    [switches]
    recommendations = true
    catalogue = { enabled = false, reason = "stock database down" }

In JSON the same: `{"switches": {"recommendations": true}}`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from backstay.errors import Misuse

__all__ = ["Document", "Switch", "check_name", "parse"]

SCHEMA = 1
LARGEST = 1 << 20
MOST = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The state of one switch: `enabled` says whether the function behind it runs."""

    enabled: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The states of all switches at one moment."""

    switches: Mapping[str, Switch]


def parse(text: bytes, *, form: str) -> Document:
    """Read a document.

    Args:
        text: the whole document, at most 1 MiB.
        form: `toml` or `json`.

    Raises:
        Misuse: it is not of that form, or anything in it is not understood: half a document is never applied.
    """
    if len(text) > LARGEST:
        raise Misuse(f"a switch document has at most {LARGEST:,} bytes, this one has {len(text):,}")
    try:
        raw: Any = tomllib.loads(text.decode()) if form == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # both decode errors are ValueErrors
        raise Misuse(f"no {form.upper()}: {error}") from None
    entries = _table(raw)
    given = _table(entries.get("switches"))
    if "switches" not in entries or given is not entries["switches"]:
        raise Misuse("a switch document needs a table 'switches', as in [switches] recommendations = true")
    unknown = set(entries) - {"schema", "switches"}
    if unknown:
        raise Misuse(f"unknown entry {min(unknown)!r} in a switch document; known: schema, switches")
    schema = entries.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        raise Misuse(f"switch documents of schema {schema!r} are not understood; this version reads schema {SCHEMA}")
    if len(given) > MOST:
        raise Misuse(f"a switch document has at most {MOST:,} switches, this one has {len(given):,}")
    switches = {check_name(name): _switch(name, state) for name, state in given.items()}
    return Document(switches=MappingProxyType(switches))


def check_name(name: object) -> str:
    """Return `name` if it can be the name of a switch.

    Raises:
        Misuse: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Misuse(f"a switch is named by 1 to 100 letters, digits and _ . - /, got {name!r}")
    return name


def _switch(name: str, state: Any) -> Switch:
    if isinstance(state, bool):
        return Switch(enabled=state)
    entries = _table(state)
    enabled, reason = entries.get("enabled"), entries.get("reason", "")
    if not isinstance(enabled, bool):
        raise Misuse(f"switch {name!r} must be true, false or {{ enabled = true, reason = '...' }}, got {state!r:.80}")
    if set(entries) - {"enabled", "reason"} or not isinstance(reason, str):
        raise Misuse(f"switch {name!r} has an entry that is not understood; known: enabled, reason (a text)")
    return Switch(enabled=enabled, reason=reason[:500])


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one. Keys of TOML and JSON are texts."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
