"""A SELECT that is not for exactly one shard: for none, for any, or for several."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .errors import Unkeyed
from .plans import Plan, Values
from .scatter import empty_result, per_shard, window
from .unit import unit_of

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["any_shard", "read_several"]


def any_shard(session: ShardedSession) -> str:
    """A shard for what is the same on all: one that the transaction uses already, or the first."""
    unit = unit_of(session)
    if unit is not None:
        for name in session.layout.shards:
            if session.layout.engines[name] in unit._connections:
                return name
    return session.layout.shards[0]


def read_several(
    session: ShardedSession,
    plan: Plan,
    route: tuple[int, ...],
    statement: Any,
    params: Any,
    options: Any,
    bind_arguments: Any,
    values: Values,
    call: tuple[Any, Any, bool],
) -> Any:
    """Run a SELECT whose rows are on no shard or on several.

    Raises:
        NotMergeable: its parts cannot be put together rightly.
        Unkeyed: it goes to more shards than the policy allows.
    """
    if isinstance(plan.merging, Exception):
        if not route:
            return session.on(any_shard(session), statement, params, options, bind_arguments, (*call[:2], False))
        raise plan.merging.again()
    merging = plan.merging
    assert merging is not None
    if not route:
        empty = None if merging.aggregates else empty_result(statement)
        if empty is not None:
            return empty
        return session.on(any_shard(session), statement, params, options, bind_arguments, (*call[:2], False))
    _check_unkeyed(session, statement, route, options)
    cut = window(merging, values)
    part, hidden = per_shard(statement, merging, cut)
    from .fanout import fan_out

    return fan_out(session, route, part, params, options, bind_arguments, call, merging, hidden, cut)


def _check_unkeyed(session: ShardedSession, statement: Any, route: tuple[int, ...], options: Any) -> None:
    policy: Any = options.get("unkeyed") or statement._execution_options.get("unkeyed") or session.unkeyed
    if policy == "allow":
        return
    if isinstance(policy, int):
        if len(route) > policy:
            raise Unkeyed(
                f"the statement would go to {len(route)} shards, and at most {policy} are allowed",
                clause="WHERE",
                cure="give the sharding key a value, or raise unkeyed",
            )
        return
    if len(route) < len(session.layout.shards):
        return
    if policy == "refuse":
        raise Unkeyed(
            f"the statement has no sharding key and would go to all {len(route)} shards",
            clause="WHERE",
            cure="give the sharding key a value, or execution_options={'unkeyed': 'allow'}",
        )
    warnings.warn(f"a statement without sharding key goes to all {len(route)} shards", UserWarning, stacklevel=5)
