"""Documents as files for people: TOML and JSON, sections by name.

schema = 1
[switches]
recommendations = true
catalogue = {enabled = false, reason = "stock database down"}
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from backstay.errors import Misuse

from .errors import Refused
from .requests import json_of
from .values import Items

__all__ = ["items_of", "to_toml"]

SCHEMA = 1


def items_of(body: bytes, kind: str) -> dict[str, dict[str, Any]]:
    """Return the sections that a file holds.

    Args:
        body: the file.
        kind: its media type; JSON where it says so, else TOML.

    Raises:
        Misuse: it is no such file.
    """
    if "json" in kind.lower():
        try:
            raw = json_of(body)
        except Refused as error:
            raise Misuse(error.detail) from None
    else:
        try:
            raw = tomllib.loads(body.decode())
        except (ValueError, RecursionError) as error:
            raise Misuse(f"no TOML: {error}"[:300]) from None
    if not isinstance(raw, dict):
        raise Misuse("a document has sections by name, such as [switches]")
    table = cast("dict[str, Any]", raw)
    schema = table.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        raise Misuse(f"documents of schema {schema!r:.40} are not understood; this version reads schema {SCHEMA}")
    found: Any = table["items"] if isinstance(table.get("items"), dict) else table
    sections = {name: value for name, value in found.items() if found is not table or name != "schema"}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise Misuse(f"{name!r:.80} is no section; a document has sections by name, such as [switches]")
        sections[name] = _plain(section, name)
    return sections


def to_toml(items: Items) -> str:
    """Return the sections as TOML; `items_of` reads them back.

    Raises:
        Misuse: there is a null among the values, which TOML does not have; JSON does.
    """
    lines = [f"schema = {SCHEMA}"]
    for section in sorted(items):
        lines += ["", f"[{_key(section)}]"]
        lines += [f"{_key(name)} = {_value(items[section][name], name)}" for name in sorted(items[section])]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _text(name)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        # An entry that is null means the same as none in every section.
        return (
            "{"
            + ", ".join(f"{_key(key)} = {_value(table[key], name)}" for key in table if table[key] is not None)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_value(each, name) for each in cast("Sequence[Any]", value)) + "]"
    raise Misuse(f"{name!r:.80} holds {value!r:.40}, which TOML has no form for; export JSON instead")


def _plain(value: Any, name: str) -> Any:
    """Return a value as JSON has it: moments of TOML become texts; infinities and dates alone are refused."""
    if isinstance(value, dict):
        return {key: _plain(inner, key) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(inner, name) for inner in cast("Sequence[Any]", value)]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if not (value is None or isinstance(value, str | bool | int | float)):
        raise Misuse(
            f"{name!r:.80}: {value!s:.60} has no form in JSON; a moment has a zone, as 2026-11-24T22:00:00Z has"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise Misuse(f"{name!r:.80}: {value!r} is no number of JSON")
    return value
