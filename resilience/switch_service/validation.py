"""Documents are checked as their readers check them, before they are published (SW-8).

Readers check again and keep what they have where something is wrong (SW-9): code that only they know, such as a
function that a policy cannot go round, is judged there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from backstay.errors import Misuse

from ..levels.actions import Actions
from ..levels.document import entry_of
from ..levels.settings import LevelSettings
from ..pipeline.arrangement import check_order
from ..pipeline.document import tables
from ..pipeline.vocabulary import WORDS
from ..switches.document import read
from .requests import LARGEST_DOCUMENT
from .values import Items

__all__ = ["SECTIONS", "Check", "Validation"]

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
    """Check a section of levels. How thresholds fit those that the program gave, only the program knows."""
    for name, given in section.items():
        entry = entry_of(name, given, wall=0.0, now=0.0)
        for what, table, kind in (("thresholds", entry.thresholds, LevelSettings), ("actions", entry.actions, Actions)):
            known = [each.name for each in fields(kind)]
            unknown = sorted(set(table) - set(known))
            if unknown:
                raise Misuse(f"level {name!r}: {what} has no {unknown[0]!r}; known: {', '.join(known)}")


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
