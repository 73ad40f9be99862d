"""The memory store beside the shipped Lua, under one clock: what both are asked, they must answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backstay.blocking import BlockingRuntime, drive
from backstay.locks.backend import Backend, Busy, Freed, Kept, Note, Renewal
from backstay.locks.backends.memory import MemoryBackend, MemoryStore
from backstay.locks.backends.redis import RedisBackend
from backstay.locks.backends.redis.answers import Request
from backstay.locks.backends.redis.mailbox import note_of
from backstay.locks.backends.redis.scripts import Script
from backstay.locks.claims import Claim, Resource
from backstay.locks.errors import SizeDiffers
from stateful.locks.lua_redis import LuaRedis

ROUNDING = 0.005  # s; the scripts round a ttl up to whole milliseconds and add one


class DirectWire:
    """A wire with nothing in between."""

    def __init__(self, redis: LuaRedis) -> None:
        self._redis = redis

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        return self._redis.run(script.text, keys, arguments), False

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        return [self._redis.run(each.script.text, each.keys, each.arguments) for each in requests]

    async def servers(self, timeout: float) -> Sequence[DirectWire]:
        return (self,)

    async def close(self) -> None:
        """Nothing to drop."""

    def forked(self) -> None:
        """Nothing to forget."""


class Box:
    """A letter of the memory store that only notes what it is given."""

    def __init__(self, token: str, into: list[tuple[str, Note]]) -> None:
        self._token, self._into = token, into

    def deliver(self, note: Note) -> None:
        self._into.append((self._token, note))


class Pair:
    """Both stores; each method asks both and compares."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.listening: set[str] = set()
        self.fences: dict[int, int] = {}  # memory's -> Lua's
        self.granted: dict[str, int] = {}  # token -> memory's fence
        self.notes: tuple[list[tuple[str, Note]], list[tuple[str, Note]]] = ([], [])
        self.store = MemoryStore(lambda: self.now, first_fence=0)
        self.memory: Backend = MemoryBackend(BlockingRuntime(), self.store, "s")
        self.redis = LuaRedis(lambda: self.now, self._publish)
        box: Any = None  # no mailbox: notes are compared as they are sent
        self.lua: Backend = RedisBackend(DirectWire(self.redis), box, "s", "lua", 1.0, lambda: self.now)

    def _publish(self, channel: str, message: str) -> int:
        found = note_of([b"message", channel.encode(), message.encode()])
        assert found is not None
        if found[0] not in self.listening:
            return 0
        self.notes[1].append(found)
        return 1

    def listen(self, token: str) -> None:
        self.listening.add(token)
        self.store.letters[token] = Box(token, self.notes[0])  # type: ignore[assignment]

    def die(self, token: str) -> None:
        self.listening.discard(token)
        self.store.letters.pop(token, None)

    def pass_time(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    def take(self, resource: Resource, token: str, claim: Claim, ttl: float, queue: bool) -> int | Busy | None:
        """Take at both; None where both say that the size is another."""
        address = token if queue else ""
        ours, theirs = (self._take(store, resource, token, claim, ttl, address) for store in (self.memory, self.lua))
        if isinstance(ours, SizeDiffers):
            assert isinstance(theirs, SizeDiffers), (ours, theirs)
            assert (ours.said, ours.size) == (theirs.said, theirs.size)
            return None
        if isinstance(ours, Busy):
            assert isinstance(theirs, Busy), (ours, theirs)
            assert ours.waiters == theirs.waiters
            assert (ours.owner == "") == (theirs.owner == ""), (ours, theirs)
            if ours.left is None:
                assert theirs.left is None
            else:
                assert theirs.left is not None
                assert abs(ours.left - theirs.left) < ROUNDING
        else:
            assert isinstance(theirs, int), (ours, theirs)
            self._same_fence(token, ours, theirs)
        self.same_notes()
        return ours

    def _take(
        self, store: Backend, resource: Resource, token: str, claim: Claim, ttl: float, address: str
    ) -> int | Busy | SizeDiffers:
        try:
            return drive(store.take(resource, token, claim, ttl, address, 1.0))
        except SizeDiffers as error:
            return error

    def release(self, resource: Resource, token: str, fence: tuple[int, int]) -> Freed:
        ours = drive(self.memory.release(resource, token, fence[0], 1.0))
        assert ours is drive(self.lua.release(resource, token, fence[1], 1.0))
        self.same_notes()
        return ours

    def lessen(self, resource: Resource, token: str, fence: tuple[int, int], claim: Claim) -> Freed:
        ours = drive(self.memory.lessen(resource, token, fence[0], claim, 1.0))
        assert ours is drive(self.lua.lessen(resource, token, fence[1], claim, 1.0))
        self.same_notes()
        return ours

    def renew(self, resource: Resource, token: str, fence: tuple[int, int], ttl: float) -> Kept:
        ours = drive(self.memory.renew([Renewal(resource, token, fence[0], ttl)], 1.0))
        assert ours == drive(self.lua.renew([Renewal(resource, token, fence[1], ttl)], 1.0))
        return ours[0]

    def withdraw(self, resource: Resource, token: str, in_flight: bool) -> None:
        drive(self.memory.withdraw(resource, token, in_flight, 1.0))
        drive(self.lua.withdraw(resource, token, in_flight, 1.0))
        self.same_notes()

    def resize(self, resource: Resource, size: int, drain: bool) -> None:
        ours = drive(self.memory.resize(resource, size, drain, 1.0))
        assert ours == drive(self.lua.resize(resource, size, drain, 1.0))
        self.same_notes()

    def fence_of(self, token: str) -> tuple[int, int]:
        """Return the fence that the token was last granted with, in both stores."""
        mine = self.granted.get(token, 0)
        return mine, self.fences.get(mine, 0)

    def same_survey(self, resource: Resource) -> None:
        """Compare who holds and who waits, and that both list the resource or both do not."""
        ours, theirs = drive(self.memory.inspect(resource, 1.0)), drive(self.lua.inspect(resource, 1.0))
        assert ours.size == theirs.size
        assert ours.waiters == theirs.waiters
        assert [(each.token, each.units, self.fences[each.fence]) for each in ours.holders] == [
            (each.token, each.units, each.fence) for each in theirs.holders
        ]
        for mine, other in zip(ours.holders, theirs.holders, strict=True):
            assert mine.left is not None
            assert other.left is not None
            assert abs(mine.left - other.left) < ROUNDING
            assert abs(mine.age - other.age) < ROUNDING
        listed = drive(self.memory.resources(10, 1.0))
        assert listed == drive(self.lua.resources(10, 1.0)) == ([resource] if ours.holders or ours.waiters else [])

    def same_notes(self) -> None:
        ours, theirs = self.notes
        assert [token for token, _ in ours] == [token for token, _ in theirs]
        for (token, mine), (_, other) in zip(ours, theirs, strict=True):
            self._same_fence(token, mine.fence, other.fence)
            assert abs(mine.server_time - other.server_time) < 0.001
        ours.clear()
        theirs.clear()

    def _same_fence(self, token: str, memory: int, lua: int) -> None:
        assert self.fences.setdefault(memory, lua) == lua
        assert max(self.fences.values()) == self.fences[max(self.fences)], "fences rise in both alike"
        self.granted[token] = memory


__all__ = ["DirectWire", "Pair"]
