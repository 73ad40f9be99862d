"""Switches as flags of OpenFeature: evaluated here for clients of any language (OFREP 0.3).

What the program's own default would be is not known here: a switch whose `until` has passed is what the document
makes of it without the operators' word, as for a reader without a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from backstay.errors import Misuse

from ..switches.evaluation import Cause, Key, Rule
from ..switches.model import Switch, thaw
from .board import Posted

__all__ = ["Flags", "key_of"]

_REASONS: Mapping[Cause, str] = {"static": "STATIC", "split": "SPLIT", "disabled": "DISABLED"}


class Flags:
    """The flags of one document, at one moment.

    Args:
        posted: the document.
        switches: of it.
        now: milliseconds since 1970.
    """

    def __init__(self, posted: Posted, switches: Mapping[str, Switch], now: int) -> None:
        self._posted = posted
        self._switches = switches
        self._now = now

    def __contains__(self, name: str) -> bool:
        return name in self._switches

    def evaluate(self, name: str, key: Key | None) -> dict[str, Any]:
        """Return the answer for a flag that there is and a targeting key."""
        switch = self._switches[name]
        expires = switch.expires
        if expires is not None and expires * 1000 <= self._now:
            switch = switch.lapsed()
        chosen = Rule(name, switch).choose(key)
        metadata: dict[str, Any] = {"scope": self._posted.envelope.scope, "version": self._posted.cursor[1]}
        if switch.reason:
            metadata["why"] = switch.reason
        return {
            "key": name,
            "value": thaw(chosen.value),
            "variant": chosen.variant,
            # The protocol knows no DEFAULT: so it is when a share is asked for without a targeting key.
            "reason": _REASONS.get(chosen.cause, "UNKNOWN"),
            "metadata": metadata,
        }

    def all(self, key: Key | None) -> list[dict[str, Any]]:
        """Return the answers for all flags, in order of their names."""
        return [self.evaluate(name, key) for name in sorted(self._switches)]


def key_of(given: Mapping[str, Any]) -> Key | None:
    """Return the targeting key of a request.

    Raises:
        Misuse: the context is none.
    """
    context = given.get("context")
    if context is None:
        return None
    if not isinstance(context, dict):
        raise Misuse("'context' is a table such as {'targetingKey': 'customer-7'}")
    key = cast("dict[str, Any]", context).get("targetingKey")
    if key is not None and (isinstance(key, bool) or not isinstance(key, str | int)):
        raise Misuse("'targetingKey' is a text")
    return key
