"""Fields that many requests have, read one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backstay.errors import Misuse

from ..delivery.envelope import moment
from .errors import Refused

__all__ = ["base_of", "flag_of", "moment_of", "only", "reason_of", "wrong"]


def wrong(error: Misuse, **further: Any) -> Refused:
    """Return the answer to a document or a setting that is wrong."""
    return Refused(422, "Not valid", str(error)[:2000], further=further)


def reason_of(given: Mapping[str, Any]) -> str:
    """Return the reason of a change.

    Raises:
        Misuse: there is none.
    """
    found = given.get("reason")
    if not isinstance(found, str) or not found.strip() or len(found) > 500 or not _printable(found):
        raise Misuse("say why: 'reason' is a text of 1 to 500 printable characters")
    return found.strip()


def base_of(given: Mapping[str, Any], name: str = "base") -> int:
    """Return the version that a change was made for.

    Raises:
        Misuse: there is none.
    """
    found = given.get(name)
    if type(found) is not int or not 0 <= found < 1 << 53:
        raise Misuse(f"{name!r} is a version, a whole number from 0, got {found!r:.40}")
    return found


def flag_of(given: Mapping[str, Any], name: str) -> bool:
    """Return a boolean that may be left out.

    Raises:
        Misuse: it is something else.
    """
    found = given.get(name, False)
    if type(found) is not bool:
        raise Misuse(f"{name!r} is true or false, got {found!r:.40}")
    return found


def only(given: Mapping[str, Any], *known: str) -> None:
    """Refuse what is not understood.

    Raises:
        Misuse: there is an entry that is not among `known`.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise Misuse(f"unknown entry {unknown[0]!r:.80}; known: {', '.join(known)}")


def _printable(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def moment_of(text: object, what: str = "until") -> int:
    """Return an RFC 3339 moment in milliseconds since 1970.

    Raises:
        Misuse: it is none, or has no offset.
    """
    return round(moment(text, what).timestamp() * 1000)
