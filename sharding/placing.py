"""Where an object belongs, and the refusals of a flush that would put it elsewhere.

SQLAlchemy alone writes a child appended to a parent of another shard to the child's old shard, and leaves a row whose
sharding key changed where it was. Both are refused here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, inspect
from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, RelationshipProperty

from .errors import BadKey, Misplaced, Unroutable
from .internals import collection_of
from .rules import Placement

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["check_flush", "shard_of_state"]


def placement_of(session: ShardedSession, mapper: Mapper[Any]) -> Placement:
    """The rule of a mapped class whose objects are written.

    Raises:
        Unroutable: it has none, or is broadcast.
    """
    placement = session.layout.placements.get(cast("Table", mapper.local_table))
    if placement is None:
        raise Unroutable(f"{mapper.class_.__name__} has no rule in this layout", cure="add Rule(...) or Broadcast(...)")
    if placement.broadcast:
        raise Unroutable(
            f"{mapper.class_.__name__} is broadcast: a flush would change one shard only",
            cure="write it on each shard with session.connection_on(shard)",
        )
    return placement


def shard_of_state(session: ShardedSession, state: InstanceState[Any]) -> str:
    """The shard of an object: where it was loaded from, or what its sharding key says.

    Raises:
        BadKey: it is new and its key is missing or of the wrong type.
    """
    if state.key is not None and state.key[2]:
        return str(state.key[2])
    placement = placement_of(session, state.mapper)
    value = state.dict.get(placement.attribute)
    if value is None:
        raise BadKey(
            f"{state.mapper.class_.__name__}.{placement.attribute} is not set, and says on which shard the row lives;"
            " set it before the object is flushed"
        )
    shard = session.layout.shard_of(placement.table, value)
    state.identity_token = shard
    return shard


def check_flush(session: ShardedSession, *_: Any) -> None:
    """Before a flush: place new objects, and refuse what would put a row on the wrong shard.

    Raises:
        Misplaced: a child away from its parent, or a changed sharding key.
        CrossShardWrite: objects of several shards in commit mode `single`.
    """
    changed = [inspect(one) for one in session.dirty if session.is_modified(one)]
    states: list[InstanceState[Any]] = [*(inspect(one) for one in session.new), *changed]
    for state in states:
        _hand_down(session, state)
    shards: set[str] = set()
    for state in states:
        placement = placement_of(session, state.mapper)
        shard = shard_of_state(session, state)
        shards.add(shard)
        if state.key is not None:
            _check_key(session, state, placement, shard)
        for prop, other in _relatives(session, state):
            if shard_of_state(session, other) != shard:
                raise Misplaced(
                    f"{state.mapper.class_.__name__}.{prop.key}: the objects live on the shards {shard!r} and"
                    f" {shard_of_state(session, other)!r}; rows that are bound need the same sharding key"
                )
    shards |= {shard_of_state(session, inspect(one)) for one in session.deleted}
    if shards:
        session.enlist(shards)


def _hand_down(session: ShardedSession, state: InstanceState[Any]) -> None:
    """Give a new child the sharding key of its parent, where it has none of its own."""
    for _, other in _relatives(session, state):
        for child, parent in ((state, other), (other, state)):
            near = session.layout.placements[child.mapper.local_table]  # type: ignore[index]  # _relatives has checked
            far = session.layout.placements[parent.mapper.local_table]  # type: ignore[index]  # as above
            if near.parent is far.table and child.key is None and child.dict.get(near.attribute) is None:
                value = parent.dict.get(far.attribute)
                if value is not None:
                    setattr(child.obj(), near.attribute, value)


def _check_key(session: ShardedSession, state: InstanceState[Any], placement: Placement, shard: str) -> None:
    if placement.attribute in state.committed_state:
        value = state.dict.get(placement.attribute)
        if value is None or session.layout.shard_of(placement.table, value) != shard:
            raise Misplaced(
                f"{state.mapper.class_.__name__}.{placement.attribute} was changed to a key of another shard than"
                f" {shard!r}; delete the object and add a new one"
            )


def _relatives(
    session: ShardedSession, state: InstanceState[Any]
) -> Iterator[tuple[RelationshipProperty[Any], InstanceState[Any]]]:
    """Loaded objects that a relationship ties to the same shard."""
    for prop in state.mapper.relationships:
        value = state.dict.get(prop.key)
        if value is None or prop.direction is RelationshipDirection.MANYTOMANY or not session.layout.stays(prop):
            continue
        far = session.layout.placements.get(cast("Table", prop.mapper.local_table))
        if far is None or far.broadcast:
            continue
        if prop.uselist:
            for one in collection_of(state, prop.key, value):
                yield prop, inspect(one)
        else:
            yield prop, inspect(value)
