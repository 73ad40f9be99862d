"""The shipped scripts of the distributed cache in a real Lua 5.1, over a dict and a clock that the test sets.

It stands where a real server cannot: its clock has to be set, stepped back, and moved together with the test's. Names
and arguments are those that would go over the wire.
"""

from __future__ import annotations

from typing import Any

from lupa import lua51

from backstay.clock import Clock
from backstay.errors import OutcomeUnknown, Unavailable
from backstay.resilience.read_chain.backends.redis import RedisShared
from backstay.resilience.read_chain.settings import RedisTier

__all__ = ["LuaCache", "LuaServer"]


class LuaServer:
    """GET, GETRANGE, SET with NX and PX, DEL and TIME; its clock is the local one plus `ahead_us`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ahead_us = 1_800_000_000_000_000
        self.entries: dict[bytes, tuple[bytes, int]] = {}
        self.lists: set[bytes] = set()
        self.trips = 0
        self.down = False
        self.mute = False
        self._lua = lua51.LuaRuntime(unpack_returned_tuples=True, encoding=None)

    @property
    def now_us(self) -> int:
        return round(self.clock() * 1_000_000) + self.ahead_us

    def run(self, script: str, keys: list[str], argv: list[Any]) -> list[Any]:
        self.trips += 1
        if self.down:
            raise Unavailable("this server is down")
        glob: Any = self._lua.globals()
        glob[b"KEYS"] = self._lua.table_from([key.encode() for key in keys])
        glob[b"ARGV"] = self._lua.table_from([each if type(each) is bytes else str(each).encode() for each in argv])
        glob[b"redis"] = self._lua.table_from({b"call": self._call, b"pcall": self._call})
        reply: Any = self._lua.execute(script.encode())
        if self.mute:
            raise OutcomeUnknown("the reply was lost")
        values = [reply[index] for index in range(1, len(reply) + 1)]
        return [None if each is False else each if type(each) is bytes else int(each) for each in values]

    def _call(self, name: bytes, key: bytes = b"", *more: Any) -> Any:
        if name == b"TIME":
            return self._lua.table_from([b"%d" % part for part in divmod(self.now_us, 1_000_000)])
        if key in self.lists and name in (b"GET", b"GETRANGE"):
            return self._lua.table_from({b"err": b"WRONGTYPE Operation against a key holding the wrong kind of value"})
        if name == b"GET":
            return self.get(key)
        if name == b"GETRANGE":
            return (self.get(key) or b"")[int(more[0]) : int(more[1]) + 1]
        if name == b"DEL":
            return int(self.entries.pop(key, None) is not None)
        assert name == b"SET", name
        value, *options = more
        if b"NX" in options and self.get(key) is not False:
            return False
        milliseconds = int(options[options.index(b"PX") + 1])
        assert milliseconds > 0
        self.lists.discard(key)
        self.entries[key] = (value, self.now_us // 1000 + milliseconds)
        return self._lua.table_from({b"ok": b"OK"})

    def get(self, key: bytes) -> Any:
        entry = self.entries.get(key)
        if entry is None or self.now_us // 1000 >= entry[1]:
            self.entries.pop(key, None)
            return False  # what a nil reply is in Lua
        return entry[0]


class _Lines:
    """Goes where a connection would, and runs the script by its text."""

    def __init__(self, server: LuaServer, cache: LuaCache) -> None:
        self.server, self.cache = server, cache

    async def ask(self, settings: Any, command: tuple[Any, ...], timeout: float) -> Any:
        assert timeout > 0
        self.cache.timeouts.append(timeout)
        name, text, count, *rest = command
        if name == "EVALSHA":
            return Exception("NOSCRIPT No matching script. Please use EVAL.")
        return self.server.run(text, rest[:count], rest[count:])

    def close(self) -> None:
        return


class LuaCache(RedisShared):
    """The shipped cache, on a `LuaServer`. Usable from tasks as well: it never waits."""

    def __init__(self, name: str, tier: RedisTier, absent_for: float, server: LuaServer) -> None:
        self.server = server
        self.timeouts: list[float] = []
        super().__init__(name, tier, absent_for, server.clock)

    def _way(self) -> Any:
        return None, _Lines(self.server, self)
