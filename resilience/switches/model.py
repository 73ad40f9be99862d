"""What a switch is: on or off, a share of keys, or one of several values; perhaps only until a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

from backstay.errors import Misuse

from ..delivery.envelope import moment

__all__ = ["Kind", "Switch", "Value", "agree", "freeze", "kind_of", "standing", "thaw"]

Kind: TypeAlias = Literal["boolean", "number", "text", "object"]
Value: TypeAlias = bool | int | float | str | Mapping[str, Any]

STEPS = 100_000
"""Buckets that keys fall into: shares have steps of a thousandth of a percent."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _no_values() -> Mapping[str, Any]:
    return _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The state of one switch: `enabled` says whether the function behind it runs.

    Without `variants` it is a boolean one, perhaps on for a percentage of keys only. With them it has a value of one
    type: that of the `default` variant, or of the one that `split` gives to the key; while it is not enabled that of
    `off`.

    Args:
        enabled: whether it is on at all.
        reason: what an operator said, at most 500 characters.
        percentage: of keys for which a boolean switch is on, in thousandths at the finest; None for all.
        variants: values by name, all of one type.
        default: the variant that is answered without a split, or without a key.
        split: percent of keys by variant; what is missing to 100 belongs to the default.
        off: the variant while it is not enabled; the default one if left out.
        until: RFC 3339; from then on what the document says of the switch does not count any more.

    Raises:
        Misuse: any of them is wrong or does not fit the others.
    """

    enabled: bool = True
    reason: str = ""
    percentage: float | None = None
    variants: Mapping[str, Value] = field(default_factory=_no_values)
    default: str = ""
    split: Mapping[str, float] = field(default_factory=_no_values)
    off: str = ""
    until: str | None = None
    kind: Kind = field(init=False, default="boolean")

    def __post_init__(self) -> None:
        given: Any = self  # callers may be untyped
        if not isinstance(given.enabled, bool) or not isinstance(given.reason, str):
            raise Misuse("a switch needs enabled = true or false, and a reason that is a text")
        object.__setattr__(self, "reason", self.reason[:500])
        if self.until is not None:
            moment(self.until, "until")
        if self.variants or self.default or self.split or self.off:
            self._check_variants()
        elif self.percentage is not None:
            steps(self.percentage, "percentage")

    def _check_variants(self) -> None:
        if self.percentage is not None:
            raise Misuse("percentage is for boolean switches; give variants their shares by split")
        kinds = {name: kind_of(value) for name, value in self.variants.items()}
        if len(set(kinds.values())) != 1:
            told = ", ".join(f"{name} is a {kind}" for name, kind in kinds.items())
            raise Misuse(f"variants have values of one type, at least one; got {told or 'none'}")
        for name in kinds:
            if not 1 <= len(name) <= 100:
                raise Misuse(f"a variant is named by 1 to 100 characters, got {name[:120]!r}")
        off = self.off or self.default
        for role, name in (("default", self.default), ("off", off), *(("split", name) for name in self.split)):
            if name not in kinds:
                raise Misuse(f"{role} names no variant: {name!r}; known: {', '.join(kinds)}")
        total = sum(steps(share, f"split of {name!r}") for name, share in self.split.items())
        if total > STEPS or (total < STEPS and self.default in self.split):
            raise Misuse(f"split gives {total / 1000:g} percent; shares sum to 100, or to less without the default's")
        object.__setattr__(self, "off", off)
        object.__setattr__(self, "kind", next(iter(kinds.values())))
        object.__setattr__(
            self, "variants", MappingProxyType({name: freeze(value) for name, value in self.variants.items()})
        )
        object.__setattr__(self, "split", MappingProxyType(dict(self.split)))

    @property
    def expires(self) -> float | None:
        """Seconds since 1970 from which on the switch does not count, or None."""
        return None if self.until is None else moment(self.until).timestamp()

    def lapsed(self) -> Switch:
        """Return what holds of it when nothing is said of it any more: on, for all, its default variant."""
        return replace(self, enabled=True, reason="", percentage=None, split=_NOTHING, until=None)

    def forced(self, enabled: bool, reason: str) -> Switch:
        """Return the same switch, on or off for all keys and without an end; variants keep their shares."""
        return replace(self, enabled=enabled, reason=reason, percentage=None, until=None)

    def __hash__(self) -> int:
        return hash((self.enabled, self.reason, self.percentage, tuple(self.variants), self.default, self.until))


def standing(value: Value | Switch) -> Switch:
    """Return the switch that a default in code means: a boolean, a number, a text, an object, or a `Switch`.

    Raises:
        Misuse: it is none of them.
    """
    if isinstance(value, Switch):
        return value
    if isinstance(value, bool):
        return Switch(enabled=value)
    return Switch(variants={"default": value}, default="default")


def agree(name: str, expected: Switch, given: Switch) -> None:
    """See that a document keeps the type that code reads a switch as.

    Raises:
        Misuse: it does not; a reader must never fail on account of an operator.
    """
    if expected.kind != given.kind:
        raise Misuse(
            f"switch {name!r} is a {given.kind} here and a {expected.kind} in the program's defaults; "
            "publish another type under another name"
        )


def kind_of(value: object) -> Kind:
    """Return the type of a value.

    Raises:
        Misuse: it is no boolean, number, text or object.
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float) and abs(value) <= 1.7976931348623157e308:  # neither NaN nor infinite
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        try:
            json.dumps(thaw(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise Misuse(f"a switch has values that JSON can hold: {error}") from None
        return "object"
    raise Misuse(f"a switch has a boolean, a number, a text or an object for its value, got {value!r:.80}")


def steps(percent: object, what: str) -> int:
    """Return a percentage in thousandths of a percent.

    Raises:
        Misuse: it is no number from 0 to 100, or finer than that.
    """
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise Misuse(f"{what} must be from 0 to 100, got {percent!r:.80}")
    whole = round(percent * 1000)
    if abs(percent * 1000 - whole) > 1e-6:
        raise Misuse(f"{what} has at most three decimals, got {percent!r:.80}")
    return whole


def freeze(value: Any) -> Any:
    """Return `value` so that no reader can change it for the others: objects read-only, lists as tuples."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return MappingProxyType({str(name): freeze(entry) for name, entry in table.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(entry) for entry in cast("Iterable[Any]", value))
    return value


def thaw(value: Any) -> Any:
    """Return a copy of a frozen value in plain dictionaries and lists."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return {name: thaw(entry) for name, entry in table.items()}
    if isinstance(value, list | tuple):
        return [thaw(entry) for entry in cast("Iterable[Any]", value)]
    return value
