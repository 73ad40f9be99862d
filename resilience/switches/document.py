"""Switch documents: what a source delivers, checked as a whole before any of it counts.

    schema = 1                       # may be left out
    [switches]
    recommendations = true
    catalogue = { enabled = false, reason = "stock database down", until = 2026-11-24T22:00:00Z }
    checkout_v2 = { enabled = true, percentage = 25 }

    [switches.page_size]
    variants = { small = 20, large = 100 }
    default = "small"
    split = { large = 10 }

In JSON the same: `{"switches": {"recommendations": true}}`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, cast

from backstay.errors import Misuse

from .model import Switch

__all__ = ["Document", "Switch", "check_name", "parse", "read"]

SCHEMA = 1
LARGEST = 1 << 20
MOST = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/]{0,99}")
_ENTRIES = frozenset(("enabled", "reason", "percentage", "variants", "default", "split", "off", "until"))


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
    return Document(switches=read(given))


def read(section: Mapping[str, Any]) -> Mapping[str, Switch]:
    """Read the table of switches, as it stands in a document or in the section `switches` of an envelope.

    Raises:
        Misuse: anything in it is not understood.
    """
    if len(section) > MOST:
        raise Misuse(f"a switch document has at most {MOST:,} switches, this one has {len(section):,}")
    return MappingProxyType({check_name(name): _switch(name, state) for name, state in section.items()})


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
    entries = dict(_table(state))
    enabled = entries.get("enabled", True if "variants" in entries else None)
    if not isinstance(enabled, bool):
        raise Misuse(f"switch {name!r} must be true, false or {{ enabled = true, reason = '...' }}, got {state!r:.80}")
    until = entries.get("until")
    if isinstance(until, datetime):  # TOML has moments
        entries["until"] = until = until.isoformat()
    tables = all(isinstance(entries.get(entry, {}), Mapping) for entry in ("variants", "split"))
    texts = all(isinstance(entries.get(entry, ""), str) for entry in ("reason", "default", "off"))
    if set(entries) - _ENTRIES or not tables or not texts or not isinstance(until, str | None):
        raise Misuse(
            f"switch {name!r} has an entry that is not understood; known: enabled, reason, default, off (texts), "
            "until (a moment), percentage (a number), variants, split (tables)"
        )
    if "variants" in entries and not entries["variants"]:
        raise Misuse(f"switch {name!r}: variants are at least one, as in {{ variants = {{ a = 1 }}, default = 'a' }}")
    try:
        fields: dict[str, Any] = {**entries, "enabled": enabled}
        return Switch(**fields)
    except Misuse as error:
        raise Misuse(f"switch {name!r}: {error}") from None


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one. Keys of TOML and JSON are texts."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
