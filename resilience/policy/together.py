"""Several policies that admit as one: for streams, blocks and middlewares, whose end is not a function's return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backstay.errors import Misuse

from .port import Admit, AdmitAsync, Admitting, Policy, Settle, Target

__all__ = ["admit_all", "admit_all_async"]


def admit_all(policies: Sequence[Policy], target: Target) -> Admit:
    """Return what admits a call through all of them, outermost first; what one refuses is settled with the others.

    Raises:
        Misuse: one of them cannot go round anything but a function's call.
    """
    admits = [each.admit(target) for each in _admitting(policies, target)]

    def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        settles: list[Settle] = []
        try:
            for each in admits:
                settles.append(each(args, kwargs))  # noqa: PERF401  # those before a refusal must be known
        except BaseException as error:
            _settle(settles, error)
            raise
        return lambda error: _settle(settles, error)

    return admit


def admit_all_async(policies: Sequence[Policy], target: Target) -> AdmitAsync:
    """Return the same for code on an event loop.

    Raises:
        Misuse: as for `admit_all`.
    """
    admits = [each.admit_async(target) for each in _admitting(policies, target)]

    async def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        settles: list[Settle] = []
        try:
            for each in admits:
                settles.append(await each(args, kwargs))  # noqa: PERF401  # as above
        except BaseException as error:  # a cancellation while waiting as well: permits come back
            _settle(settles, error)
            raise
        return lambda error: _settle(settles, error)

    return admit


def _settle(settles: list[Settle], error: BaseException | None) -> None:
    """Tell all of them, innermost first, once."""
    while settles:
        settles.pop()(error)


def _admitting(policies: Sequence[Policy], target: Target) -> list[Admitting]:
    found: list[Admitting] = []
    for policy in policies:
        if not isinstance(policy, Admitting):
            what = f"{target.label}(), a {target.colour.value} function" if target.is_stream else "a block or a request"
            raise Misuse(
                f"{target.resource!r}: {policy.kind} calls a function, perhaps again, or answers in its place, and "
                f"cannot go round {what}; leave it out there, or protect a function inside it"
            )
        found.append(policy)
    return found
