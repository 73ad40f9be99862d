"""Evaluation: from a switch and a key to a value, always the same one, in every process and every language.

A key's bucket in a switch, 0 to 99,999, is

    bucket = ((a * crc32(key) + b) mod (2**61 - 1)) mod 100000

where `key` is UTF-8, crc32 is that of zlib, and a and b are fixed by the switch's name alone: of
SHA-256("backstay:" + name), a is 1 + the first 8 bytes mod (2**61 - 2), b the next 8 bytes mod (2**61 - 1), both
big-endian. Such functions are pairwise independent: who is early in one switch is not early in all of them.

A percentage p is on for buckets below 1000 * p, so growing it turns nobody off. Of a split, the variants other than
the default take their shares from bucket 0 on in the order of their names; the default takes what is left. Growing
the last of them at the default's cost moves only keys of the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias
from zlib import crc32

from backstay.errors import Misuse

from .model import STEPS, Switch, steps

__all__ = ["Cause", "Chosen", "Key", "Rule", "bucket_of"]

Key: TypeAlias = str | int
Cause: TypeAlias = Literal["static", "default", "split", "disabled", "stale"]

_PRIME = 2**61 - 1


@dataclass(frozen=True, slots=True)
class Chosen:
    """One outcome of a rule, made once a document and not once a read."""

    value: Any
    variant: str
    cause: Cause
    on: bool


class Rule:
    """A switch made ready for evaluation.

    Args:
        name: of the switch.
        switch: what is in force of it.
        defaulted: it is the program's default: no document says anything of it.
    """

    __slots__ = ("fixed", "keyless", "pick", "switch")

    def __init__(self, name: str, switch: Switch, *, defaulted: bool = False) -> None:
        self.switch = switch
        self.fixed: Chosen | None = None
        self.pick: Callable[[str], Chosen] = self._fixed
        boolean = switch.kind == "boolean"
        variants: Mapping[str, Any] = switch.variants or {"on": True, "off": False}
        cause: Cause = "default" if defaulted else "static"
        if not switch.enabled:
            off = switch.off or "off"
            self.fixed = self.keyless = Chosen(
                variants[off], off, "default" if defaulted else "disabled", boolean and bool(variants[off])
            )
            return
        default = switch.default or ("on" if switch.percentage is None else "off")
        shares = {"on": switch.percentage} if switch.percentage is not None else switch.split
        ranges: list[tuple[int, Chosen]] = []
        end = 0
        for variant in (*sorted(set(shares) - {default}), default):
            size = STEPS - end if variant == default else steps(shares[variant], variant)
            end += size
            if size:
                ranges.append(
                    (end, Chosen(variants[variant], variant, "split", not boolean or bool(variants[variant])))
                )
        self.keyless = Chosen(
            variants[default], default, "default" if shares else cause, not boolean or bool(variants[default])
        )
        if len(ranges) == 1:
            whole = ranges[0][1]
            self.fixed = self.keyless = Chosen(whole.value, whole.variant, cause, whole.on)
        else:
            self.pick = _picker(name, ranges)

    def choose(self, key: Key | None) -> Chosen:
        """Return what holds for `key`.

        Raises:
            Misuse: it is no text and no whole number.
        """
        if type(key) is str:
            return self.pick(key)
        return self.keyless if key is None else self.pick(text_of(key))

    def _fixed(self, key: str) -> Chosen:
        return self.keyless

    @property
    def plain(self) -> bool | None:
        """Whether the function behind the switch runs, or None if that depends on the key."""
        if self.switch.kind != "boolean":
            return self.switch.enabled
        return None if self.fixed is None else self.fixed.on


def _picker(name: str, ranges: list[tuple[int, Chosen]]) -> Callable[[str], Chosen]:
    """Return a function from a key to the outcome whose range holds the key's bucket."""
    a, b = _constants(name)
    if len(ranges) == 2:
        (first, low), (_, high) = ranges

        def pick_of_two(key: str) -> Chosen:
            try:
                return low if (a * crc32(key.encode()) + b) % _PRIME % STEPS < first else high
            except UnicodeEncodeError:  # half of a character: no text, and no reason to fail a request
                return low if bucket_of(name, key) < first else high

        return pick_of_two

    def pick(key: str) -> Chosen:
        bucket = (a * crc32(key.encode("utf-8", "surrogatepass")) + b) % _PRIME % STEPS
        for end, chosen in ranges:
            if bucket < end:
                return chosen
        return ranges[-1][1]

    return pick


def _constants(name: str) -> tuple[int, int]:
    digest = sha256(f"backstay:{name}".encode()).digest()
    a = 1 + int.from_bytes(digest[:8], "big") % (_PRIME - 1)
    return a, int.from_bytes(digest[8:16], "big") % _PRIME


def bucket_of(name: str, key: Key) -> int:
    """Return the bucket, from 0 to 99,999, of a key in a switch."""
    a, b = _constants(name)
    return (a * crc32(text_of(key).encode("utf-8", "surrogatepass")) + b) % _PRIME % STEPS


def text_of(key: Any) -> str:
    """Return a key as the text whose bucket counts.

    Raises:
        Misuse: it is no text and no whole number.
    """
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise Misuse(f"a key is a text or a whole number, such as a customer's id, got {key!r:.80}; use str(key)")
