"""What is stored on Redis and what is believed of it: moments on the server's clock, damage, sizes, names (DG-6)."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import OutcomeUnknown
from backstay.redis.slots import slot_of
from backstay.resilience.read_chain import JSON, LocalTier, RedisTier
from backstay.resilience.read_chain.backends.redis import RedisShared
from backstay.resilience.read_chain.codec import ABSENT, FORGOTTEN, VALUE, Poisoned, pack, unpack
from backstay.testing import ManualClock, measured
from unit.resilience.lua_read_cache import LuaServer
from unit.resilience.read_chains import Origin, answering, on_lua

NAME = b"backstay:default:read:1:{catalogue:product:1}"
HOUR = 3_600_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def moment(server: LuaServer) -> float:
    """Seconds since the moment that is stored, on the server's clock."""
    return (server.now_us - int(server.entries[NAME][0].split()[1])) / 1_000_000


def test_DG6_an_answer_is_stored_with_the_moment_its_origin_was_asked_on_server_time(clock: ManualClock) -> None:
    chain, server = on_lua(clock)

    @chain
    def slow(product_id: int) -> str:
        clock.advance(3)
        return "x"

    slow(1)
    assert moment(server) == 3.0
    assert server.entries[NAME][1] == (server.now_us // 1000) + 3_597_000, "max_stale from that moment on"


def test_DG6_one_round_trip_to_look_and_one_to_keep(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    read = chain(Origin().read())
    read(1)
    assert server.trips == 2
    read(1)
    assert server.trips == 3


@pytest.mark.parametrize("ahead", [-HOUR, HOUR, 5_000_000, -5_000_000])
def test_DG6_a_step_of_the_servers_clock_makes_no_answer_younger(ahead: int, clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    origin = Origin()
    read = answering(chain, origin.read())
    read(1)
    clock.advance(10)
    server.ahead_us += ahead
    answer = read(1)
    # Older than it is, or not believed: never younger.
    assert answer.source == "origin" or (answer.age is not None and answer.age >= 10)


def test_DG6_a_write_that_was_held_up_does_not_look_younger_when_it_arrives(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    origin = Origin()
    read = answering(chain, origin.read())
    read(2)  # the server's clock is known from here on
    kept: list[Any] = []
    real = server.run

    def hold_up(script: str, keys: list[str], argv: list[Any]) -> Any:
        if "GETRANGE" in script:
            kept.append((script, keys, argv))
            raise OutcomeUnknown("no reply in time")
        return real(script, keys, argv)

    server.run = hold_up  # type: ignore[method-assign]  # a frozen server reads it later
    read(1)
    server.run = real  # type: ignore[method-assign]
    clock.advance(25)
    for each in kept:
        real(*each)
    assert moment(server) == 25.0


def test_DG6_an_older_answer_never_replaces_a_newer_one(clock: ManualClock) -> None:
    first, server = on_lua(clock)
    second, _ = on_lua(clock, server=server)

    def slow(product_id: int) -> str:
        clock.advance(2)
        assert second(lambda product_id: "new")(product_id) == "new"
        clock.advance(1)
        return "old"

    first(slow)(1)
    assert b'"new"' in server.entries[NAME][0]


def test_an_answer_that_has_outlived_itself_is_not_stored(clock: ManualClock) -> None:
    chain, server = on_lua(clock, fresh=1, max_stale=2)

    def slow(product_id: int) -> str:
        clock.advance(3)
        return "x"

    assert chain(slow)(1) == "x"
    assert NAME not in server.entries


# -- poison


POISON = [
    b"",
    b"garbage",
    b"1",
    b"1 17",
    b"1 17 v",
    b"1 17 v 00000000 ",
    b"1 x v 00000000 {}",
    b"1 17 z 00000000 {}",
    b"9 17 v 00000000 {}",
    b'{"name": "from another application"}',
    b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    b"\xff" * 1000,
]


@pytest.mark.parametrize("data", POISON)
def test_DG6_what_cannot_be_believed_is_a_miss_that_is_counted(data: bytes, clock: ManualClock) -> None:
    chain, server = on_lua(clock, "poisoned")
    origin = Origin()
    read = answering(chain, origin.read())
    name = NAME.replace(b"catalogue", b"poisoned")
    server.entries[name] = (data, 2**62)
    with measured() as counts:
        assert read(1).source == "origin"
    assert counts.count("read.faults", resource="poisoned", cause="poisoned") == 1
    assert read(1).source == "distributed_cache", "and it was written anew"


def test_DG6_a_key_of_another_type_is_a_miss_and_is_written_anew(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    server.lists.add(NAME)
    read = answering(chain, Origin().read())
    assert [read(1).source, read(1).source] == ["origin", "distributed_cache"]


def test_DG6_an_answer_of_another_key_is_not_believed(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    read = chain(Origin().read())
    read(2)
    server.entries[NAME] = server.entries[NAME.replace(b"product:1", b"product:2")]
    assert read(1) == "product 1"


def test_DG6_an_answer_from_the_future_is_not_believed(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    origin = Origin()
    chain(origin.read())(1)
    server.ahead_us -= HOUR
    read = answering(on_lua(clock, server=server)[0], origin.read())  # this process has not seen the step
    assert read(1).source == "origin"
    assert read(1).source == "distributed_cache"


def test_DG6_after_a_step_back_answers_are_older_for_as_long_as_those_from_before_it_live(clock: ManualClock) -> None:
    chain, server = on_lua(clock, fresh=30, max_stale=100)
    read = answering(chain, Origin().read())
    read(1)
    server.ahead_us -= 5_000_000
    assert read(1).age == pytest.approx(0.0)
    read(2)
    assert read(2).age == pytest.approx(5.0), "rather too old than too young"
    clock.advance(101)
    read(2)
    assert read(2).age == pytest.approx(0.0)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_DG6_a_flipped_bit_is_found_or_changes_nothing_but_the_moment(position: int, bit: int) -> None:
    whole = b"1 1800000001000000 " + pack("k", VALUE, JSON.encode({"price": 3, "name": "honey"}))
    data = bytearray(whole)
    data[position % len(whole)] ^= 1 << bit
    try:
        stored = unpack("k", bytes(data))
    except Poisoned:
        return
    assert (stored.kind, stored.payload) == (VALUE, b'{"price":3,"name":"honey"}')


@given(
    key=st.text(),
    payload=st.binary(),
    kind=st.sampled_from([VALUE, ABSENT, FORGOTTEN]),
    moment_us=st.integers(0, 10**16),
)
def test_what_is_packed_is_unpacked(key: str, payload: bytes, kind: bytes, moment_us: int) -> None:
    stored = unpack(key, b"1 %d " % moment_us + pack(key, kind, payload))
    assert (stored.moment_us, stored.kind, stored.payload) == (moment_us, kind, payload)


# -- codecs and sizes


class Shouting:
    """A codec of the user's own."""

    def encode(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def decode(self, data: bytes) -> Any:
        if b"BROKEN" in data:
            raise LookupError("not mine")
        return data.decode()


def test_DG6_answers_go_through_the_codec_that_was_given(clock: ManualClock) -> None:
    chain, _ = on_lua(clock, tier={"codec": Shouting()})
    origin = Origin()
    read = answering(chain, origin.read())
    assert [read(1).value, read(1).value] == ["product 1", "PRODUCT 1"]
    origin.answers[2] = "broken"
    with measured() as counts:
        assert [read(2).source, read(2).source] == ["origin", "origin"]
    assert counts.count("read.faults", resource="catalogue", cause="poisoned") == 1


@pytest.mark.parametrize("value", [object(), {1, 2}, math.nan, "\ud800", b"bytes"])
def test_what_cannot_be_encoded_is_served_and_not_stored(
    value: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    chain, server = on_lua(clock)
    origin = Origin()
    origin.answers = {1: value, 2: value}
    read = chain(origin.read())
    with measured() as counts:
        assert read(1) is value and read(2) is value
    assert counts.count("read.faults", resource="catalogue", cause="unencodable") == 2
    assert NAME not in server.entries
    assert len([r for r in caplog.records if "does without its distributed cache" in r.message]) == 1


def test_what_is_too_long_is_served_and_not_stored(clock: ManualClock) -> None:
    chain, server = on_lua(clock, tier={"max_bytes": 10})
    origin = Origin()
    origin.answers = {1: "x" * 8, 2: "x" * 9}
    read = chain(origin.read())
    with measured() as counts:
        read(1), read(2)
    assert counts.count("read.faults", resource="catalogue", cause="oversized") == 1
    assert NAME in server.entries and NAME.replace(b":1}", b":2}") not in server.entries


# -- names


def cache(**tier: Any) -> RedisShared:
    return RedisShared("catalogue", RedisTier(store="redis://localhost", max_stale=60, **tier), 30, ManualClock())


@given(key=st.text(max_size=400))
def test_names_have_one_hash_tag_for_an_answer_and_its_claim(key: str) -> None:
    value, claim = cache(namespace="shop").names(key)
    assert value.startswith("backstay:shop:read:1:{catalogue:")
    assert slot_of(value) == slot_of(claim)
    assert value != claim and len(value) < 900
    value.encode()


@given(keys=st.lists(st.text(max_size=300), min_size=2, max_size=20, unique=True))
def test_no_two_keys_have_one_name(keys: list[str]) -> None:
    names = [name for key in keys for name in cache().names(key)]
    assert len(set(names)) == len(names)


def test_two_applications_on_one_server_do_not_read_each_others_answers(clock: ManualClock) -> None:
    first, server = on_lua(clock, tier={"namespace": "shop"})
    second, _ = on_lua(clock, server=server, tier={"namespace": "bank"})
    first(Origin().read())(1)
    origin = Origin()
    assert answering(second, origin.read())(1).source == "origin"
    assert all(re.match(rb"backstay:(shop|bank):read:1:", name) for name in server.entries)


def test_of_a_lost_reply_nothing_is_believed_and_the_answer_is_there(clock: ManualClock) -> None:
    chain, server = on_lua(clock, local=LocalTier(fresh=1, max_stale=60))
    origin = Origin()
    read = answering(chain, origin.read())
    server.mute = True
    with measured() as counts:
        assert read(1).source == "origin"
    assert counts.count("read.faults", resource="catalogue", cause="unreachable") == 2
    server.mute = False
    clock.advance(2)
    assert read(1).source == "distributed_cache", "the write had arrived"


def test_forgetting_says_so_where_the_reply_is_lost(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    server.mute = True
    with pytest.raises(OutcomeUnknown):
        chain.forget("product:1")
    with pytest.raises(OutcomeUnknown):
        asyncio.run(chain.forget_async("product:1"))
