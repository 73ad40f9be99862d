"""Guarded keys over the shipped Lua, run by lupa over a dict: a Redis without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backstay.locks.guards.redis import FencedKeys
from backstay.locks.guards.redis.protocol import FencedKeysProtocol
from backstay.locks.guards.redis.scripts import Script
from stateful.locks.lua_redis import LuaRedis


class LuaLine:
    """Stands where a real server cannot: hundreds of examples, and a look at the keys of each script."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.server = LuaRedis(lambda: self.now, lambda channel, message: 0)
        self.keys: list[Sequence[str]] = []

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        self.keys.append(keys)
        return self.server.run(script.text, keys, arguments)

    async def close(self) -> None: ...


def scripted() -> tuple[FencedKeys, LuaLine]:
    line = LuaLine()
    return FencedKeys(FencedKeysProtocol(line, "shop")), line
