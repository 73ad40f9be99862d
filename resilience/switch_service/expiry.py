"""What in a document was to last until a moment, and what the service writes when the moment has passed.

Readers fall back by themselves at that moment: a switch whose `until` has passed counts as though the document did not
name it, and so it may stay where it is, for operators to see and to turn again. The version that the service writes
puts the end into history and audit. A pin of a level is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from backstay.errors import Misuse

from ..delivery.envelope import Envelope
from .fields import moment_of

__all__ = ["expired", "next_end"]


def next_end(envelope: Envelope) -> int | None:
    """Return the first moment after the document's issue at which something ends, in ms since 1970, or None."""
    return min((end for _, _, end in _ends(envelope)), default=None)


def expired(envelope: Envelope, now: int) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the items once more, with what has ended by `now` marked or taken away, and the names of that."""
    left: dict[str, dict[str, Any]] = {section: dict(entries) for section, entries in envelope.items.items()}
    over: list[str] = []
    for section, name, end in _ends(envelope):
        if end <= now:
            over.append(name)
            table = cast("dict[str, Any]", left[section][name])
            if section == "switches":
                left[section][name] = {**table, "reason": f"ran out; was: {table.get('reason') or 'no reason'}"[:500]}
            else:
                left[section][name] = {key: value for key, value in table.items() if key != "pin"}
    return left, over


def _ends(envelope: Envelope) -> Iterator[tuple[str, str, int]]:
    issued = moment_of(envelope.issued_at)
    for section in ("switches", "levels"):
        for name, value in envelope.items.get(section, {}).items():
            if isinstance(value, Mapping):
                table = cast("Mapping[str, Any]", value)
                held: Any = table if section == "switches" else table.get("pin")
                until = cast("Mapping[str, Any]", held).get("until") if isinstance(held, Mapping) else None
                try:
                    end = issued if until is None else moment_of(until)
                except Misuse:
                    continue  # readers do not understand it either: it never ends
                if end > issued:  # what had ended when the document was issued was known then
                    yield section, name, end
