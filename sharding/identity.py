"""Where an object of a given primary key may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import InstanceState, Mapper

from .errors import Unroutable

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["shards_of_identity"]


def shards_of_identity(
    session: ShardedSession, mapper: Mapper[Any], identity: Any, parent: InstanceState[Any] | None
) -> Iterable[str]:
    """The shards on which an object with this primary key may be.

    Raises:
        Unroutable: the primary key does not say.
    """
    placement = session.layout.placement(mapper.local_table)
    if placement.broadcast:
        return session.layout.shards
    column, _ = placement.keyed()
    for part, value in zip(mapper.primary_key, identity, strict=True):
        if part is column:
            return (session.layout.shard_of(placement.table, value),)
    if parent is not None and parent.identity_token and _shares_shard(session, parent.mapper, mapper):
        return (str(parent.identity_token),)
    if placement.global_id:
        return session.layout.shards
    raise Unroutable(
        f"the primary key of {mapper.class_.__name__} does not say on which shard it lives",
        cure=f"select by {placement.attribute} as well, pass identity_token=session.shard_of(...), or declare"
        " Rule(..., global_id=True)",
    )


def _shares_shard(session: ShardedSession, near: Mapper[Any], far: Mapper[Any]) -> bool:
    return all(session.layout.stays(prop) for prop in near.relationships if prop.mapper is far)
