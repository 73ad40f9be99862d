"""Documents are checked as their readers check them, before they are published (SW-8).

Readers check again and keep what they have where something is wrong (SW-9): code that only they know, such as a
function that a policy cannot go round, is judged there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from backstay.errors import Misuse

from ..delivery.envelope import moment
from ..pipeline.arrangement import check_order
from ..pipeline.document import tables
from ..pipeline.vocabulary import WORDS
from ..switches.document import read
from .requests import LARGEST_DOCUMENT
from .values import Items

__all__ = ["SECTIONS", "Check", "Validation"]

LEVELS = ("normal", "warning", "error", "severe")

Check: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Raises `Misuse` if a section cannot be applied; changes nothing."""


def check_switches(section: Mapping[str, Any]) -> None:
    """Check a section of switches."""
    read(section)


def check_pipelines(section: Mapping[str, Any]) -> None:
    """Check a section of pipelines."""
    for name, table in tables({"pipelines": section}).items():
        for word, value in table.items():
            if word == "order":
                check_order(name, value)
            elif word not in WORDS:
                raise Misuse(f"pipeline {name!r} has no policy {word!r}; known: {', '.join(sorted((*WORDS, 'order')))}")
            elif word == "switch":
                if value is not False and not isinstance(value, str):
                    raise Misuse(f"pipeline {name!r}: switch is the name of a switch, got {value!r:.80}")
            elif value is not False:
                WORDS[word].settings(value, f"{word} of {name!r}")


def check_levels(section: Mapping[str, Any]) -> None:
    """Check a section of levels: what is forced and pinned. Thresholds are judged by those who measure."""
    for name, given in section.items():
        if not isinstance(given, Mapping):
            raise Misuse(f"level of {name!r}: expected a table such as {{'force': 'severe'}}, got {given!r:.80}")
        table = cast("Mapping[str, Any]", given)
        pin = table.get("pin")
        if pin is not None and not isinstance(pin, Mapping):
            raise Misuse(f"level of {name!r}: a pin is {{'level': ..., 'until': ...}}, got {pin!r:.80}")
        pinned = cast("Mapping[str, Any]", pin or {})
        for level in (table.get("force"), pinned.get("level")):
            if level is not None and level not in LEVELS:
                raise Misuse(f"level of {name!r}: a level is one of {', '.join(LEVELS)}, got {level!r:.80}")
        if pinned and "level" not in pinned:
            raise Misuse(f"level of {name!r}: a pin names its level, one of {', '.join(LEVELS)}")
        if pinned.get("until") is not None:
            moment(pinned["until"], "until")


SECTIONS: Mapping[str, Check] = {"switches": check_switches, "levels": check_levels, "pipelines": check_pipelines}
"""The sections of a document, and what checks each."""


class Validation:
    """Checks whole documents.

    Args:
        sections: further sections, or other checks for these.
    """

    def __init__(self, sections: Mapping[str, Check] | None = None) -> None:
        self._sections = {**SECTIONS, **(sections or {})}

    def check(self, items: Items) -> None:
        """Check a document.

        Raises:
            Misuse: anything in it is not understood, or it is larger than 1 MiB.
        """
        for section, entries in items.items():
            check = self._sections.get(section)
            if check is None:
                raise Misuse(f"no section {section!r:.80}; known: {', '.join(sorted(self._sections))}")
            for name in entries:
                if not 1 <= len(name) <= 100 or not name.isprintable():
                    raise Misuse(f"an item is named by 1 to 100 printable characters, got {name!r:.120} in {section!r}")
            check(entries)
        try:
            size = len(
                json.dumps({name: dict(entries) for name, entries in items.items()}, ensure_ascii=False).encode()
            )
        except (ValueError, RecursionError) as error:
            raise Misuse(f"the document is no JSON: {error}") from None
        if size > LARGEST_DOCUMENT - 1024:
            raise Misuse(f"a document takes at most {LARGEST_DOCUMENT - 1024:,} bytes, this one takes {size:,}")
