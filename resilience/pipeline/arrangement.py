"""Policies in their places: the default order, a place beside another kind, or an order of the user's own (CO-1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from backstay.errors import Misuse

from ..policy import ORDER, Policy

__all__ = ["GIVEN", "Entry", "Order", "Placed", "arrange", "check_order", "placed"]

GIVEN = "given"
"""The order in which the policies stand among the arguments, outermost first."""

Order: TypeAlias = str | Sequence[str] | None
"""None for the default, `"given"`, or kinds, outermost first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A policy with a place of its own; made by `placed`."""

    policy: Policy
    beside: str
    inside: bool


Entry: TypeAlias = Policy | Placed


def placed(policy: Policy, *, after: str | None = None, before: str | None = None) -> Placed:
    """Give a policy a place in the default order: for kinds that it does not know.

        Pipeline("payments", Retry("payments"), placed(Audit(), after="retry"))

    Args:
        policy: any object with the shape of `Policy`.
        after: it goes right inside policies of this kind, whether the pipeline has one or not.
        before: right outside.

    Raises:
        Misuse: neither or both are given, or the kind is none of the default order.
    """
    beside = after if after is not None else before
    if beside is None or (after is not None and before is not None):
        raise Misuse("placed() takes either after= or before=, the kind that the policy stands beside")
    if beside not in ORDER:
        raise Misuse(f"no policies of kind {beside!r} in the default order; known: {', '.join(ORDER)}")
    return Placed(policy=_checked(policy), beside=beside, inside=after is not None)


def arrange(name: str, entries: Sequence[Entry], order: Order) -> tuple[Policy, ...]:
    """Return the policies, outermost first.

    Raises:
        Misuse: something is no policy, or its place is not known.
    """
    for entry in entries:
        if not isinstance(entry, Placed):
            _checked(entry)
    if order == GIVEN:
        if any(isinstance(entry, Placed) for entry in entries):
            raise Misuse(f"pipeline {name!r}: with order='given' a policy stands where it is given, without placed()")
        arranged = [_policy(entry) for entry in entries]
        return tuple(sorted(arranged, key=lambda policy: policy.kind != "operation"))  # it unpacks what others serve
    kinds = check_order(name, order)
    return tuple(_policy(entry) for entry in sorted(entries, key=lambda entry: _place(name, entry, kinds)))


def check_order(name: str, order: Order) -> tuple[str, ...]:
    """Return the kinds of an order.

    Raises:
        Misuse: it is no list of kinds, or names one twice.
    """
    given: Any = order
    if given is None:
        return ORDER
    kinds: tuple[Any, ...] = tuple(cast("Sequence[Any]", given)) if isinstance(given, list | tuple) else ()
    if not kinds or not all(type(kind) is str for kind in kinds):
        raise Misuse(f"pipeline {name!r}: order is a list of kinds, outermost first, or 'given', got {order!r:.80}")
    twice = {kind for kind in kinds if kinds.count(kind) > 1}
    if twice:
        raise Misuse(f"pipeline {name!r}: order names {min(twice)!r} twice")
    return kinds if "operation" in kinds else ("operation", *kinds)


def _place(name: str, entry: Entry, kinds: tuple[str, ...]) -> tuple[int, int]:
    kind, turn = entry.policy.kind if isinstance(entry, Placed) else entry.kind, 0
    if isinstance(entry, Placed) and kind not in kinds:
        kind, turn = entry.beside, 1 if entry.inside else -1
    if kind in kinds:
        return kinds.index(kind), turn
    if kinds == ORDER:
        raise Misuse(
            f"pipeline {name!r}: the default order has no place for kind {kind!r}; say placed(policy, after='retry') "
            f"or give order=[...]; known: {', '.join(ORDER)}"
        )
    raise Misuse(f"pipeline {name!r}: order leaves out {kind!r}; it has {', '.join(kinds)}")


def _policy(entry: Entry) -> Policy:
    return entry.policy if isinstance(entry, Placed) else entry


def _checked(policy: Policy) -> Policy:
    given: Any = policy
    shape = all(callable(getattr(given, name, None)) for name in ("wrap", "wrap_async"))
    if isinstance(given, type) or not shape or not isinstance(getattr(given, "kind", None), str):
        raise Misuse(f"a policy has kind, wrap and wrap_async; {given!r:.100} does not")
    return policy
