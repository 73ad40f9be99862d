"""What a guarded write to Redis does, once for both faces."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from backstay.errors import Misuse, OutcomeUnknown
from backstay.locks.guards.errors import StaleFence
from backstay.locks.guards.token import Fenced, token_of
from backstay.locks.options import Duration, checked_name, seconds

from .line import Line, Part
from .scripts import DELETE, PASS, SET, Script, around

__all__ = ["FencedKeysProtocol"]

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


class FencedKeysProtocol:
    """Scripts over a line; the highest fence of a lock and all that it guards share one hash tag."""

    def __init__(self, line: Line, space: str) -> None:
        self.line, self._space = line, space

    def tag(self, name: str) -> str:
        return "{" + checked_name(name).translate(_ESCAPES) + "}"

    def key(self, name: str, key: str) -> str:
        given: Any = key
        if not isinstance(given, str) or not 0 < len(given) <= 512:
            raise Misuse(f"a guarded key is a text of 1 to 512 characters, got {given!r}")
        return f"backstay:{self._space}:{self.tag(name)}:value:{key}"

    async def admit(self, lease: Fenced) -> None:
        await self._guarded(PASS, lease, (), ())

    async def set(self, lease: Fenced, key: str, value: Part, ttl: Duration | None) -> None:
        if ttl is None:
            lives: int | str = ""
        else:
            span = seconds(ttl, "ttl")
            if not 0.0 < span < 10**10:
                raise Misuse(f"ttl must be > 0 s, got {span:g}; None keeps the value for ever")
            lives = ceil(span * 1000.0)
        token = token_of(lease)
        await self._guarded(SET, token, (self.key(token.name, key),), (_part(value), lives))

    async def delete(self, lease: Fenced, keys: Sequence[str]) -> int:
        if not keys:
            raise Misuse("delete() needs at least one key")
        token = token_of(lease)
        count: int = await self._guarded(DELETE, token, [self.key(token.name, key) for key in keys], ())
        return count

    async def run(self, lease: Fenced, script: str, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        given: Any = script
        if not isinstance(given, str) or not given.strip():
            raise Misuse("run() needs the text of a Lua script")
        return await self._guarded(around(script), lease, keys, [_part(part) for part in arguments])

    async def _guarded(self, script: Script, lease: Fenced, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        token = token_of(lease)
        highest = f"backstay:{self._space}:{self.tag(token.name)}:highest"
        try:
            answer: list[Any] = await self.line.run(script, (highest, *keys), (token.fence, *arguments))
        except OutcomeUnknown as unknown:
            unknown.ask.update(lock=token.name, fence=token.fence)
            raise
        if answer[0] == 1:
            result = answer[1] if len(answer) > 1 else None
            if isinstance(result, Exception):  # redis.error_reply() inside the answer
                raise Misuse(f"the script under lock {token.name!r} answered with an error: {result}") from result
            return result
        raise StaleFence.at("Redis", lock=token.name, fence=token.fence, highest=int(answer[1]))


def _part(value: Any) -> Part:
    if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float)):
        raise Misuse(f"Redis holds text, bytes and numbers, got {type(value).__name__}")
    return value
