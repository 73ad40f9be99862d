"""Envelopes: the one document that a scope has, as it is stored, sent, kept on disk and signed by its checksum.

    {"schema": 1, "scope": "shop/production", "epoch": 1, "version": 42, "checksum": "sha256:<hex>",
     "issued_at": "2026-11-24T02:00:00Z", "not_after": null,
     "items": {"switches": {"recommendations": true}, "levels": {}, "pipelines": {}}}

The checksum is SHA-256 over the canonical JSON (sorted keys, no spaces, UTF-8 unescaped) of all but itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from backstay.errors import Misuse

__all__ = ["LARGEST", "SCHEMA", "SECTIONS", "Cursor", "Envelope", "Order", "check_scope", "moment"]

SCHEMA = 1
LARGEST = 1 << 20
"""Bytes of the largest envelope."""
SECTIONS = ("switches", "levels", "pipelines")
"""The sections that this version writes; a plane leaves alone those that it has no consumer for."""

Order: TypeAlias = Literal["newer", "same", "older", "forked"]

_HIGHEST = 2**53 - 1  # what every JSON reader keeps exact
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}(/[A-Za-z0-9][A-Za-z0-9_.\-]{0,62})*")
_SECTION = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_ENTRIES = frozenset(("schema", "scope", "epoch", "version", "checksum", "issued_at", "not_after", "items"))


class Cursor(NamedTuple):
    """A place in a scope's history. Any version of a higher epoch is after all of a lower one (SW-1).

    Attributes:
        epoch: changes when a store is made anew; never lower than before.
        version: counts documents within an epoch.
    """

    epoch: int
    version: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.version}"


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A scope's whole document at one version.

    Guarantees: every value is checked; `items` holds what JSON can hold and nothing else; two envelopes with the
    same content have the same bytes. Not guaranteed: that what stands in a section means anything: consumers say so.

    Args:
        scope: such as `shop/production`.
        epoch: from 1.
        version: from 0.
        issued_at: RFC 3339 with a zone.
        not_after: from when on the document counts as stale, and a stored copy is not begun with; or None.
        items: sections by name.

    Raises:
        Misuse: one of them is wrong, or the whole has over 1 MiB.
    """

    scope: str
    epoch: int
    version: int
    issued_at: str
    items: Mapping[str, Mapping[str, Any]]
    not_after: str | None = None

    def __post_init__(self) -> None:
        given: Any = self  # callers may be untyped
        check_scope(given.scope)
        for name, lowest in (("epoch", 1), ("version", 0)):
            value = getattr(given, name)
            if type(value) is not int or not lowest <= value <= _HIGHEST:
                raise Misuse(f"{name} must be a whole number from {lowest} to 2**53 - 1, got {value!r:.80}")
        moment(self.issued_at, "issued_at")
        if self.not_after is not None:
            moment(self.not_after, "not_after")
        object.__setattr__(self, "items", _items(given.items))
        if len(self.to_bytes()) > LARGEST:
            raise Misuse(
                f"an envelope has at most {LARGEST:,} bytes, this one has {len(self.to_bytes()):,}; split scopes"
            )

    @classmethod
    def seal(
        cls,
        *,
        scope: str,
        epoch: int,
        version: int,
        items: Mapping[str, Mapping[str, Any]],
        issued_at: str | datetime | None = None,
        not_after: str | None = None,
    ) -> Envelope:
        """Return the envelope of these items, issued now unless told otherwise; the items are copied.

        Raises:
            Misuse: see `Envelope`.
        """
        issued = datetime.fromtimestamp(time.time_ns() / 1e9, UTC) if issued_at is None else issued_at
        if isinstance(issued, datetime):
            issued = issued.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(scope=scope, epoch=epoch, version=version, issued_at=issued, not_after=not_after, items=items)

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """Read an envelope.

        Raises:
            Misuse: it is no JSON, has entries that are not understood, or its checksum is not that of its content.
        """
        if len(data) > LARGEST:
            raise Misuse(f"an envelope has at most {LARGEST:,} bytes, this one has {len(data):,}")
        try:
            raw: Any = json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:  # decode errors are ValueErrors
            raise Misuse(f"no envelope: {error}; was it truncated on the way?") from None
        if not isinstance(raw, dict):
            raise Misuse(f"an envelope is a JSON object, got a {type(raw).__name__}")
        entries = cast("dict[str, Any]", raw)
        schema = entries.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            raise Misuse(f"envelopes of schema {schema!r:.40} are not understood; this version reads schema {SCHEMA}")
        missing, unknown = _ENTRIES - {"not_after"} - set(entries), set(entries) - _ENTRIES
        if missing or unknown:
            raise Misuse(
                f"an envelope has the entries {', '.join(sorted(_ENTRIES))}; "
                f"missing: {', '.join(sorted(missing)) or 'none'}, unknown: {', '.join(sorted(unknown)) or 'none'}"
            )
        found = cls(
            scope=entries["scope"],
            epoch=entries["epoch"],
            version=entries["version"],
            issued_at=entries["issued_at"],
            not_after=entries.get("not_after"),
            items=entries["items"],
        )
        if entries["checksum"] != found.checksum:
            raise Misuse(
                f"the checksum of {found.scope} {found.cursor} is not that of its content: "
                "it was changed or cut on the way; have it published again"
            )
        return found

    @property
    def cursor(self) -> Cursor:
        """Where in the scope's history it stands."""
        return Cursor(self.epoch, self.version)

    @property
    def etag(self) -> str:
        """An entity tag, quotes included: another content at the same cursor has another one."""
        return f'"{self.cursor}-{self.checksum[7:23]}"'

    @cached_property
    def checksum(self) -> str:
        """`sha256:` and 64 hexadecimal digits."""
        return "sha256:" + hashlib.sha256(_canonical(self._entries())).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON, checksum included."""
        return _canonical({**self._entries(), "checksum": self.checksum})

    def compare(self, held: Envelope | None) -> Order:
        """Return how this one stands to the one that is held; `forked` is another content at the same cursor."""
        if held is None or self.cursor > held.cursor:
            return "newer"
        if self.cursor < held.cursor:
            return "older"
        return "same" if self.checksum == held.checksum else "forked"

    def _entries(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "scope": self.scope,
            "epoch": self.epoch,
            "version": self.version,
            "issued_at": self.issued_at,
            "not_after": self.not_after,
            "items": {name: dict(section) for name, section in self.items.items()},
        }

    def __hash__(self) -> int:
        return hash(self.checksum)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(section)} {name}" for name, section in self.items.items())
        return f"Envelope({self.scope!r} {self.cursor}: {sizes or 'empty'})"


def check_scope(scope: object) -> str:
    """Return `scope` if it can be the name of one.

    Raises:
        Misuse: it cannot.
    """
    if isinstance(scope, str) and len(scope) <= 200 and _SCOPE.fullmatch(scope):
        return scope
    raise Misuse(f"a scope is like 'shop/production' (letters, digits, _ . - between slashes), got {scope!r:.80}")


def moment(text: object, what: str = "a moment") -> datetime:
    """Return what an RFC 3339 text means.

    Raises:
        Misuse: it is none, or has no zone.
    """
    if isinstance(text, str) and _MOMENT.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass  # such as month 13: told below
    raise Misuse(f"{what} must be like '2026-11-24T22:00:00Z', zone included, got {text!r:.60}")


def _items(given: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return a copy of `given` that holds JSON only."""
    if not isinstance(given, Mapping):
        raise Misuse(f"items must be a table of sections, as in {{'switches': {{...}}}}, got {type(given).__name__}")
    sections: dict[str, Mapping[str, Any]] = {}
    for name, section in _entries(given):
        if not isinstance(name, str) or not _SECTION.fullmatch(name):
            raise Misuse(f"a section is named like {', '.join(SECTIONS)}, got {name!r:.60}")
        if not isinstance(section, Mapping):
            raise Misuse(f"section {name!r} must be a table, got {type(section).__name__}")
        try:
            text = json.dumps(
                dict(cast("Mapping[object, object]", section)), allow_nan=False, ensure_ascii=False, default=_plain
            )
            copied = json.loads(text, object_pairs_hook=_once)
            text.encode()  # a lone surrogate is no text
        except (TypeError, ValueError, RecursionError) as error:
            raise Misuse(f"section {name!r} holds what JSON cannot: {error}") from None
        sections[name] = MappingProxyType(copied)
    return MappingProxyType(sections)


def _entries(table: Any) -> list[tuple[Any, Any]]:
    return list(table.items())


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(f"{type(value).__name__} {value!r:.60}")


def _canonical(entries: Mapping[str, Any]) -> bytes:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, unless a name stands twice in it: which of the two holds, readers disagree about."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
