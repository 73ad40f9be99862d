"""The shipped script in a real Lua 5.1, over a dict and a clock that the test sets: a Redis without a server.

It stands where a real server cannot: its clock has to be set, stepped back and refused. Commands come in as the
bytes that would go over the wire, so the encoding is tested as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import hiredis
from lupa import lua51

from backstay.redis import target
from backstay.resilience.rate_limiting.backends.redis import AsyncRedisBuckets, RedisBuckets, Store
from backstay.resilience.rate_limiting.backends.redis.wire import ONE, Script
from backstay.resilience.rate_limiting.rate import Rate

Entry = tuple[bytes, float]


class LuaRedis:
    """GET, SET with PX, DEL, TIME, EVAL, EVALSHA and SCRIPT LOAD; expiry on its own clock, in milliseconds."""

    def __init__(self, now_us: int = 1_800_000_000_000_000) -> None:
        self.now_us = now_us
        self.refuses_time = False
        self.entries: dict[bytes, Entry] = {}
        self.scripts: dict[bytes, bytes] = {}
        self.calls: list[bytes] = []
        self.answers: list[list[Any]] = []
        self._lua = lua51.LuaRuntime(unpack_returned_tuples=True, encoding=None)

    def execute(self, command: bytes) -> Any:
        reader = hiredis.Reader()
        reader.feed(command)
        name, *arguments = reader.gets()
        if name == b"EVAL":
            self.scripts[_sha(arguments[0])] = arguments[0]
        elif name == b"EVALSHA":
            if arguments[0] not in self.scripts:
                return hiredis.ReplyError("NOSCRIPT No matching script. Please use EVAL.")
            arguments[0] = self.scripts[arguments[0]]
        else:
            raise AssertionError(command)
        script, count, *rest = arguments
        keys, argv = rest[: int(count)], rest[int(count) :]
        return self._run(script, keys, argv)

    def _run(self, script: bytes, keys: list[bytes], argv: list[bytes]) -> Any:
        lua = self._lua
        glob: Any = lua.globals()
        glob[b"KEYS"] = lua.table_from(keys)
        glob[b"ARGV"] = lua.table_from(argv)
        glob[b"redis"] = lua.table_from(
            {b"call": self._call, b"error_reply": lambda text: lua.table_from({b"err": text})}
        )
        reply: Any = lua.execute(script)
        if reply[b"err"] is not None:
            return hiredis.ReplyError(reply[b"err"].decode())
        # Redis cuts numbers of a reply to integers
        answer = [each if isinstance(each, bytes) else int(each) for each in reply.values()]
        self.answers.append(answer)
        return answer

    def _call(self, name: bytes, *arguments: Any) -> Any:
        self.calls.append(name)
        if name == b"TIME":
            if self.refuses_time:
                raise lua51.LuaError("ERR This Redis command is not allowed from script")
            seconds, micro = divmod(self.now_us, 1_000_000)
            return self._lua.table_from([b"%d" % seconds, b"%d" % micro])
        if name == b"GET":
            return self.get(arguments[0])
        if name == b"DEL":
            return int(self.entries.pop(arguments[0], None) is not None)
        if name == b"SET":
            key, value, option, milliseconds = arguments
            assert option == b"PX"
            assert milliseconds.isdigit()
            assert int(milliseconds) > 0
            self.entries[key] = (value, self.now_us // 1000 + int(milliseconds))
            return {b"ok": b"OK"}
        raise AssertionError(name)

    def get(self, key: bytes) -> Any:
        entry = self.entries.get(key)
        if entry is None or self.now_us // 1000 > entry[1]:
            self.entries.pop(key, None)
            return False  # what a nil reply is in Lua
        return entry[0]


class LuaStore(Store):
    """A store whose server is a `LuaRedis`. `our_us` is the clock of this client, apart from the server's."""

    def __init__(self, server: LuaRedis, our_us: Callable[[], int] | None = None) -> None:
        self.server = server
        clock = our_us or (lambda: server.now_us)
        super().__init__(target("redis://localhost"), budget=0.05, clock=lambda: clock() / 1_000_000)

    def ask(self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script = ONE) -> list[Any]:
        whole = False
        while True:
            reply = self.server.execute(self._encode(body, borrowed, deadline, whole, script=script))
            answer = self._answer(reply)
            if answer is not None:
                return answer
            whole = whole or isinstance(reply, Exception)

    async def ask_async(
        self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script = ONE
    ) -> list[Any]:
        return self.ask(body, borrowed, deadline, script)


def lua_buckets(server: LuaRedis, rate: Rate, **options: Any) -> RedisBuckets:
    store = LuaStore(server, options.pop("our_us", None))
    return RedisBuckets(store, rate, namespace="test", name=options.pop("name", "limit"), **options)


def async_lua_buckets(server: LuaRedis, rate: Rate, **options: Any) -> AsyncRedisBuckets:
    return AsyncRedisBuckets(LuaStore(server), rate, namespace="test", name=options.pop("name", "limit"), **options)


def _sha(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
