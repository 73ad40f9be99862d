"""A strict reader of the structured fields (RFC 9651) that limits send: lists of strings with integer parameters."""

from __future__ import annotations

import re

_ITEM = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"((?:;[a-z*][a-z0-9_.*-]*=-?\d{1,15})*)')


def parse_list(text: str) -> list[tuple[str, dict[str, int]]]:
    items: list[tuple[str, dict[str, int]]] = []
    at = 0
    while True:
        match = _ITEM.match(text, at)
        if match is None:
            raise ValueError(f"no structured list: {text!r} at {at}")
        parameters = [each.split("=") for each in match[2].split(";")[1:]]
        items.append((re.sub(r"\\(.)", r"\1", match[1]), {name: int(value) for name, value in parameters}))
        at = match.end()
        if at == len(text):
            return items
        comma = re.compile(r"[ \t]*,[ \t]*(?=.)").match(text, at)
        if comma is None:
            raise ValueError(f"no structured list: {text!r} at {at}")
        at = comma.end()
