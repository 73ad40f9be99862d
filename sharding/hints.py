"""The shard that is named beside a statement: by an option, or by the object that SQLAlchemy loads something for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm import RelationshipProperty

from .errors import Unroutable
from .internals import is_kind, top_level_token

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["named_shard"]


def named_shard(session: ShardedSession, statement: Any, options: Any, bind_arguments: Any) -> str | None:
    """The shard that a hint names or that the object knows for which SQLAlchemy loads something."""
    named = (bind_arguments and bind_arguments.get("shard")) or options.get("shard")
    named = named or statement._execution_options.get("shard")
    if named is not None:
        session.layout.engine(named)  # refuses an unknown name
        return cast("str", named)
    token = options.get("identity_token") or statement._execution_options.get("identity_token")
    # subqueryload keeps the options of the query that it was made from in the statement
    for load in (options.get("_sa_orm_load_options"), statement._execution_options.get("_sa_orm_load_options")):
        if load is not None and token is None:
            token = load._identity_token
            if token is None and load._lazy_loaded_from is not None:
                token = load._lazy_loaded_from.identity_token
    outer = top_level_token(options)
    if token is None and outer is not None:
        token = outer
    if token is None:
        return None
    prop = _relationship(statement)
    if prop is None or session.layout.stays(prop):
        return cast("str", token)
    if outer is not None:
        raise Unroutable(
            f"{prop}: what it loads is not known to live on the shard of the object it is loaded for",
            clause=prop.key,
            cure="load it with a select() of its own, by its sharding key",
        )
    return None


def _relationship(statement: Any) -> RelationshipProperty[Any] | None:
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    for part in reversed(path.path if path is not None else ()):
        if is_kind(part, RelationshipProperty):
            return cast("RelationshipProperty[Any]", part)
    return None
