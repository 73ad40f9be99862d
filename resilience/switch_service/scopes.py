"""Scopes: `application/environment`; and patterns of them, which tokens are limited to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from backstay.errors import Misuse

__all__ = ["check_pattern", "check_scope", "covers", "covers_pattern"]

_PART = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}"
_SCOPE = re.compile(rf"{_PART}/{_PART}")
_PATTERN = re.compile(rf"\*|(?:\*|{_PART})/(?:\*|{_PART})")


def check_scope(text: object) -> str:
    """Return `text` if it can be a scope.

    Raises:
        Misuse: it cannot.
    """
    if not isinstance(text, str) or not _SCOPE.fullmatch(text):
        raise Misuse(f"a scope is application/environment, such as shop/production, got {text!r:.80}")
    return text


def check_pattern(text: object) -> str:
    """Return `text` if it can limit a token: a scope in which a part may be `*`; `*` alone is `*/*`.

    Raises:
        Misuse: it cannot.
    """
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        raise Misuse(f"a token is limited to scopes such as shop/production, shop/*, */staging or *, got {text!r:.80}")
    return "*/*" if text == "*" else text


def covers(patterns: Iterable[str], scope: str) -> bool:
    """Return whether one of the patterns takes in `scope`, which may be a pattern as well."""
    application, _, environment = scope.partition("/")
    return any(
        _part(wanted, application) and _part(where, environment)
        for wanted, _, where in (pattern.partition("/") for pattern in patterns)
    )


def covers_pattern(patterns: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether all that `others` take in is taken in by one of the patterns."""
    patterns = tuple(patterns)
    return all(covers(patterns, other) for other in others)


def _part(pattern: str, part: str) -> bool:
    return pattern in ("*", part)
