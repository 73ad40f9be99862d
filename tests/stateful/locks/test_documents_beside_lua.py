"""Documents in memory and by the shipped Lua, step by step: the same answers, and the same hints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from backstay.blocking import BlockingRuntime, drive
from backstay.errors import OutcomeUnknown, Unavailable
from backstay.locks.backend import Note
from backstay.locks.backends.memory_documents import DocumentStore, MemoryDocuments
from backstay.locks.backends.redis.documents import RedisDocuments
from backstay.locks.claims import Resource
from backstay.locks.documents import Document
from stateful.locks.beside import DirectWire
from stateful.locks.lua_redis import LuaRedis

RESOURCE = st.sampled_from([Resource("a", "latch"), Resource("a", "barrier"), Resource("a|b{", "latch")])
TEXT = st.sampled_from(["", "1|x", "0", "\x00|", 'é"\n{}'])
TTL = st.sampled_from([None, 0.095, 4.995])
STEP = st.sampled_from([0.01, 0.1, 5.0, 100.0])


class Place:
    """A letter whose owner notes what it is told; `address` is empty while its process is cut off."""

    def __init__(self, token: str, address: str) -> None:
        self.token, self.address = token, address
        self.notes: list[Note] = []

    async def wait(self, timeout: float) -> Note | None:
        return self.notes.pop(0) if self.notes else None

    def close(self) -> None:
        self.address = "closed"


class Places:
    """A mailbox of such letters, and the network behind them."""

    def __init__(self) -> None:
        self.letters: dict[str, Place] = {}
        self.alive = True

    def letter(self, token: str) -> Place:
        return self.letters.setdefault(token, Place(token, "here"))

    async def open(self, timeout: float) -> None:
        """Nothing to open."""

    def publish(self, channel: str, message: str) -> int:
        token, fence, moment = message.split("|")
        letter = self.letters.get(token)
        if not self.alive or letter is None or letter.address != channel:
            return 0
        letter.notes.append(Note(int(fence), int(moment) / 1e6))
        return 1


class Beside(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.memory = MemoryDocuments(BlockingRuntime(), DocumentStore(lambda: self.now), "s")
        self.places = Places()
        self.redis = LuaRedis(lambda: self.now, self.places.publish)
        self.lua = RedisDocuments(DirectWire(self.redis), self.places, "s", "lua", 1.0, lambda: self.now)
        self.versions: dict[Resource, dict[int, int]] = {}  # memory's -> Lua's
        self.watches: dict[Resource, Any] = {}

    def _same(self, resource: Resource, ours: Document | None, theirs: Document | None) -> None:
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.text == theirs.text
            versions = self.versions.setdefault(resource, {0: 0})
            assert versions.setdefault(ours.version, theirs.version) == theirs.version
            assert len(set(versions.values())) == len(versions), "a version is used once"
            assert abs(ours.server_time - theirs.server_time) < 0.001

    @rule(seconds=STEP)
    def pass_time(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    @rule(resource=RESOURCE)
    def read(self, resource: Resource) -> None:
        self._same(resource, drive(self.memory.read(resource, 1.0)), drive(self.lua.read(resource, 1.0)))

    def _version(self, resource: Resource, right: bool) -> tuple[int, int]:
        found = drive(self.memory.read(resource, 1.0))
        mine = 0 if found is None else found.version
        versions = self.versions.get(resource, {0: 0})
        if not right:
            mine = max(versions) if mine != max(versions) else 0
        return mine, versions[mine]

    @rule(resource=RESOURCE, text=TEXT, ttl=TTL, right=st.booleans())
    def write(self, resource: Resource, text: str, ttl: float | None, right: bool) -> None:
        mine, other = self._version(resource, right)
        ours = drive(self.memory.write(resource, text, mine, ttl, 1.0))
        self._same(resource, ours, drive(self.lua.write(resource, text, other, ttl, 1.0)))
        self._hinted(resource, ours is not None)

    @rule(resource=RESOURCE, right=st.booleans())
    def delete(self, resource: Resource, right: bool) -> None:
        mine, other = self._version(resource, right)
        ours = drive(self.memory.delete(resource, mine, 1.0))
        assert ours is drive(self.lua.delete(resource, other, 1.0))
        self.pass_time(0.001)  # no server deletes and writes in the same microsecond
        self._hinted(resource, ours)

    def _hinted(self, resource: Resource, changed: bool) -> None:
        for place, (mine, other) in self.watches.items():
            hinted = place == resource and changed
            assert drive(mine.wait(0.0)) is hinted
            if hinted:  # Lua's place looks at its clock, which stands, while it waits in vain
                assert drive(other.wait(1.0)) is True
            else:
                assert not self.places.letters[other._token].notes

    @rule(resource=RESOURCE)
    def watch(self, resource: Resource) -> None:
        if resource not in self.watches:
            self.watches[resource] = (
                drive(self.memory.watch(resource, 1.0)),
                drive(self.lua.watch(resource, 1.0)),
            )

    @rule(resource=RESOURCE)
    def go_on_watching(self, resource: Resource) -> None:
        """Whoever watches comes back before its place lapses, as `wait` does by itself."""
        for _, other in self.watches.values():
            drive(other.ask(1.0))

    @rule(resource=RESOURCE)
    def leave(self, resource: Resource) -> None:
        for watch in self.watches.pop(resource, ()):
            drive(watch.close())

    def teardown(self) -> None:
        for resource in tuple(self.watches):
            self.leave(resource)
        assert [key for key in self.redis.living() if key.endswith(":watchers")] == []


class Patient(Beside):
    """Steps of time stay below that for which a place is sent hints."""

    @rule(seconds=STEP)
    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        self.go_on_watching(Resource("any", "latch"))


Patient.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDocumentsBesideLua = Patient.TestCase


@pytest.fixture
def lua() -> tuple[RedisDocuments, LuaRedis, Places, list[float]]:
    now, places = [1000.0], Places()
    redis = LuaRedis(lambda: now[0], places.publish)
    return RedisDocuments(DirectWire(redis), places, "s", "lua", 1.0, lambda: now[0]), redis, places, now


NEWS = Resource("n", "election")
Parts = tuple[RedisDocuments, LuaRedis, Places, list[float]]


def test_who_watched_and_is_gone_is_forgotten_by_the_next_change(lua: Parts) -> None:
    documents, redis, places, _ = lua
    drive(documents.watch(NEWS, 1.0))
    assert redis.live("backstay:s:{n}:election:watchers") is not None
    places.alive = False
    assert drive(documents.write(NEWS, "x", 0, None, 1.0)) is not None
    assert redis.live("backstay:s:{n}:election:watchers") is None


def test_a_place_that_nobody_keeps_up_lapses(lua: Parts) -> None:
    documents, redis, places, now = lua
    watch = drive(documents.watch(NEWS, 1.0))
    now[0] += 59.0
    assert redis.live("backstay:s:{n}:election:watchers") is not None
    now[0] += 2.0
    assert redis.live("backstay:s:{n}:election:watchers") is None
    (letter,) = places.letters.values()
    letter.notes.append(Note(1, 1.0))
    assert drive(watch.wait(1.0)) is True
    assert redis.live("backstay:s:{n}:election:watchers") is not None, "whoever waits asks again"


class SentTwice(DirectWire):
    """A wire that sends each request a second time, as a stale connection makes it do."""

    async def call(self, script: Any, keys: Any, arguments: Any, timeout: float) -> tuple[Any, bool]:
        await super().call(script, keys, arguments, timeout)
        return (await super().call(script, keys, arguments, timeout))[0], True


def test_a_change_that_was_sent_twice_and_refused_once_is_unknown(lua: Parts) -> None:
    """It would be a lie to say that another was faster: it was our own first copy."""
    documents, redis, places, now = lua
    twice = RedisDocuments(SentTwice(redis), places, "s", "lua", 1.0, lambda: now[0])
    with pytest.raises(OutcomeUnknown, match="sent to lua twice"):
        drive(twice.write(NEWS, "x", 0, None, 1.0))
    written = drive(documents.read(NEWS, 1.0))
    assert written is not None
    assert written.text == "x"
    with pytest.raises(OutcomeUnknown, match="read again"):
        drive(twice.delete(NEWS, written.version, 1.0))
    assert drive(documents.read(NEWS, 1.0)) is None


def test_a_document_that_comes_again_has_versions_of_its_own(lua: Parts) -> None:
    documents, _, _, now = lua
    versions: list[int] = []
    for _ in range(5):
        written = drive(documents.write(NEWS, "x", 0, None, 1.0))
        assert written is not None
        versions.append(written.version)
        assert drive(documents.delete(NEWS, written.version, 1.0))
        now[0] += 0.000_002
    assert versions == sorted(set(versions))


def test_a_mailbox_that_was_cut_off_meanwhile_is_unavailable(lua: Parts) -> None:
    documents, _, places, _ = lua
    places.letter = lambda token: None  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(Unavailable, match="closed the subscription"):
        drive(documents.watch(NEWS, 1.0))
