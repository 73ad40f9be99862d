"""The memory store and the shipped Lua are two programs for one set of rules: a history reads the same in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from backstay.blocking import BlockingRuntime, drive
from backstay.locks.backend import Busy, Note, Renewal
from backstay.locks.backends.memory import MemoryBackend, MemoryStore
from backstay.locks.backends.redis import RedisBackend
from backstay.locks.backends.redis.answers import Request
from backstay.locks.backends.redis.mailbox import note_of
from backstay.locks.backends.redis.scripts import Script
from backstay.locks.claims import MUTEX, Resource
from stateful.locks.lua_redis import LuaRedis

NAME = Resource("b{c}")  # one lock: a token is used for one acquisition, so it never meets two
TOKENS = st.sampled_from([f"host-1-{'0' * 32}-{n}" for n in range(5)])
# Ends of leases fall between the steps of the clock, so that a millisecond of rounding decides nothing.
TTLS = st.sampled_from([0.005, 0.095, 0.995, 7.005])
STEPS = st.sampled_from([0.01, 0.1, 1.0, 4.0, 61.0])


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


class Box:
    """A letter of the memory store that only notes what it is given."""

    def __init__(self, token: str, into: list[tuple[str, Note]]) -> None:
        self._token, self._into = token, into

    def deliver(self, note: Note) -> None:
        self._into.append((self._token, note))


class Beside(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.listening: set[str] = set()
        self.fences: dict[int, int] = {}  # memory's -> Lua's
        self.notes: tuple[list[tuple[str, Note]], list[tuple[str, Note]]] = ([], [])
        self.store = MemoryStore(lambda: self.now, first_fence=0)
        self.memory = MemoryBackend(BlockingRuntime(), self.store, "s")
        self.redis = LuaRedis(lambda: self.now, self._publish)
        self.lua = RedisBackend(DirectWire(self.redis), None, "s", "lua", 1.0)  # type: ignore[arg-type]  # no mailbox

    def _publish(self, channel: str, message: str) -> int:
        found = note_of([b"message", channel.encode(), message.encode()])
        assert found is not None
        if found[0] not in self.listening:
            return 0
        self.notes[1].append(found)
        return 1

    def _same_fence(self, memory: int, lua: int) -> None:
        assert self.fences.setdefault(memory, lua) == lua

    @initialize()
    def begin(self) -> None:
        self.listening.clear()

    @rule(token=TOKENS)
    def listen(self, token: str) -> None:
        self.listening.add(token)
        self.store.letters[token] = Box(token, self.notes[0])  # type: ignore[assignment]

    @rule(token=TOKENS)
    def die(self, token: str) -> None:
        self.listening.discard(token)
        self.store.letters.pop(token, None)

    @rule(seconds=STEPS)
    def pass_time(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    @rule(token=TOKENS, ttl=TTLS, queue=st.booleans())
    def take(self, token: str, ttl: float, queue: bool) -> None:
        ours = drive(self.memory.take(NAME, token, MUTEX, ttl, token if queue else "", 1.0))
        theirs = drive(self.lua.take(NAME, token, MUTEX, ttl, token if queue else "", 1.0))
        if isinstance(ours, Busy):
            assert isinstance(theirs, Busy), (ours, theirs)
            assert (ours.waiters, ours.owner) == (theirs.waiters, theirs.owner)
            if ours.left is not None:
                assert theirs.left is not None
                assert abs(ours.left - theirs.left) < 0.005
        else:
            assert isinstance(theirs, int), (ours, theirs)
            self._same_fence(ours, theirs)
        self._same_notes()

    @rule(token=TOKENS, pick=st.integers(0, 50))
    def release(self, token: str, pick: int) -> None:
        memory, lua = self._fence(pick)
        assert drive(self.memory.release(NAME, token, memory, 1.0)) is drive(self.lua.release(NAME, token, lua, 1.0))
        self._same_notes()

    @rule(token=TOKENS, ttl=TTLS, pick=st.integers(0, 50))
    def renew(self, token: str, ttl: float, pick: int) -> None:
        memory, lua = self._fence(pick)
        ours = drive(self.memory.renew([Renewal(NAME, token, memory, ttl)], 1.0))
        assert ours == drive(self.lua.renew([Renewal(NAME, token, lua, ttl)], 1.0))

    @rule(token=TOKENS, in_flight=st.booleans())
    def withdraw(self, token: str, in_flight: bool) -> None:
        drive(self.memory.withdraw(NAME, token, in_flight, 1.0))
        drive(self.lua.withdraw(NAME, token, in_flight, 1.0))
        self._same_notes()

    def _fence(self, pick: int) -> tuple[int, int]:
        latest = sorted(self.fences.items())[-3:] or [(0, 0)]
        return latest[pick % len(latest)]

    def _same_notes(self) -> None:
        ours, theirs = self.notes
        assert [token for token, _ in ours] == [token for token, _ in theirs]
        for (_, mine), (_, other) in zip(ours, theirs, strict=True):
            self._same_fence(mine.fence, other.fence)
            assert abs(mine.server_time - other.server_time) < 0.001
        ours.clear()
        theirs.clear()


TestMemoryBesideLua = Beside.TestCase
TestMemoryBesideLua.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
