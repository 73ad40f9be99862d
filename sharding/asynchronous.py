"""The same session for asyncio: SQLAlchemy's `AsyncSession` around a `ShardedSession`."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from backstay.errors import Misuse

from .layout import ShardMap
from .session import CommitMode, ShardedSession, UnkeyedPolicy

__all__ = ["AsyncShardedSession"]


class AsyncShardedSession(AsyncSession):
    """An `AsyncSession` over the shards of a layout of asyncio engines; see `ShardedSession`.

    Raises:
        Misuse: the layout's engines are blocking ones.
    """

    sync_session_class = ShardedSession
    sync_session: ShardedSession  # pyright: ignore[reportIncompatibleVariableOverride]  # made by the class above, so it is one

    def __init__(
        self,
        layout: ShardMap,
        *,
        commit: CommitMode = "single",
        unkeyed: UnkeyedPolicy = "allow",
        at_once: bool | None = None,
        **options: Any,
    ) -> None:
        given: Any = layout  # callers may be untyped
        if not isinstance(given, ShardMap) or not given.async_engines:
            raise Misuse("an asyncio session needs a ShardMap of asyncio engines or URLs, such as sqlite+aiosqlite://")
        super().__init__(layout=layout, commit=commit, unkeyed=unkeyed, at_once=at_once, **options)

    @property
    def layout(self) -> ShardMap:
        """The shards and the rules."""
        return self.sync_session.layout

    def shard_of(self, entity: Any, key: object) -> str:
        """The name of the shard where rows of this entity with this key live."""
        return self.sync_session.shard_of(entity, key)

    async def connection_on(self, shard: str, *, read_only: bool = False) -> AsyncConnection:
        """The connection that this session's transaction uses on a shard; see `ShardedSession.connection_on`."""
        engine = self.layout.async_engines[self.layout.shards[self.layout.shards.index(shard)]]
        found = await self.run_sync(lambda session: self.sync_session.connection_on(shard, read_only=read_only))
        return AsyncConnection(engine, found)

    async def connection_of(self, entity: Any, key: object, *, read_only: bool = False) -> AsyncConnection:
        """The same, on the shard of a key."""
        return await self.connection_on(self.shard_of(entity, key), read_only=read_only)
