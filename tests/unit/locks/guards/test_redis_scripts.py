"""The shipped Lua of guarded keys, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from backstay.errors import MissingExtra, Misuse
from backstay.locks.guards import FencingToken, StaleFence
from backstay.locks.guards.redis import AsyncFencedKeys, FencedKeys
from unit.locks.guards.scripted import scripted


def token(fence: int, name: str = "cart:7") -> FencingToken:
    return FencingToken(name=name, fence=fence)


def test_F6_a_late_write_changes_nothing() -> None:
    keys, line = scripted()
    keys.set(token(5), "items", "a")
    keys.set(token(7), "items", "b")
    keys.set(token(7), "items", "c")
    before = dict(line.server.data)
    for call in (
        lambda: keys.set(token(6), "items", "late"),
        lambda: keys.delete(token(6), "items"),
        lambda: keys.admit(token(6)),
        lambda: keys.run(token(6), "return redis.call('SET', KEYS[1], 'late')", keys=["x"]),
    ):
        with pytest.raises(StaleFence) as stale:
            call()
        assert (stale.value.lock, stale.value.fence, stale.value.highest) == ("cart:7", 6, 7)
    assert line.server.data == before
    assert line.server.data[keys.key("cart:7", "items")] == "c"


@pytest.mark.parametrize(
    ("low", "high"),
    [(9, 10), (99, 100), (2**53, 2**53 + 1), (2**62 + 1, 2**62 + 2), (2**63 - 2, 2**63 - 1), (1, 2)],
)
def test_F3_fences_are_compared_exactly_to_the_last_digit(low: int, high: int) -> None:
    keys, _ = scripted()
    keys.admit(token(low))
    keys.admit(token(high))
    keys.admit(token(high))
    with pytest.raises(StaleFence) as stale:
        keys.admit(token(low))
    assert stale.value.highest == high


def test_F6_a_users_script_runs_under_the_check_with_its_own_keys_and_arguments() -> None:
    keys, line = scripted()
    total = keys.key("cart:7", "total")
    add = "local sum = (redis.call('GET', KEYS[1]) or 0) + ARGV[1]\n"
    add += "redis.call('SET', KEYS[1], sum)\nreturn {#KEYS, #ARGV}"
    assert keys.run(token(5), add, keys=[total], args=[5]) == [1, 1]
    assert keys.run(token(5), add + "\n", keys=[total], args=[6]) == [1, 1]
    with pytest.raises(StaleFence):
        keys.run(token(4), add, keys=[total], args=[100])
    assert float(line.server.data[total]) == 11
    assert keys.run(token(5), "return nil") is None
    assert keys.run(token(5), "local unused = 1") is None


def test_R8_all_keys_of_a_lock_share_one_hash_tag() -> None:
    keys, line = scripted()
    name = "cart{7}:%"
    keys.set(token(5, name), "items", "a", ttl=1.5)
    keys.delete(token(5, name), "items", "other")
    keys.admit(token(5, name))
    for used in line.keys:
        for key in used:
            assert key.startswith("backstay:shop:{cart%7B7%7D:%25}:")
    assert keys.tag(name) == "{cart%7B7%7D:%25}"
    assert keys.key(name, "items") == line.keys[0][1]


def test_values_may_end_and_the_highest_fence_does_not() -> None:
    keys, line = scripted()
    keys.set(token(5), "items", "a", ttl=1.5)
    line.now += 2.0
    assert line.server.live(keys.key("cart:7", "items")) is None
    with pytest.raises(StaleFence):
        keys.set(token(4), "items", "late")


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    keys, line = scripted()
    wrong: Any = None
    for call in (
        lambda: keys.set(token(5), "", "a"),
        lambda: keys.set(token(5), "k" * 513, "a"),
        lambda: keys.set(token(5), "k", wrong),
        lambda: keys.set(token(5), "k", True),
        lambda: keys.set(token(5), "k", "a", ttl=0),
        lambda: keys.set(wrong, "k", "a"),
        lambda: keys.delete(token(5)),
        lambda: keys.run(token(5), "  "),
        lambda: keys.run(token(5), "return 1", args=[wrong]),
        lambda: keys.key("", "k"),
        lambda: FencedKeys.connect("redis://localhost", namespace="a b"),
        lambda: FencedKeys.connect("memory://"),
        lambda: FencedKeys.connect("localhost"),
        lambda: FencedKeys.connect("redis://localhost", answer_within=0),
        lambda: FencedKeys.connect(wrong),
        lambda: AsyncFencedKeys.connect(wrong),
    ):
        with pytest.raises(Misuse) as misuse:
            call()
        assert not isinstance(misuse.value, MissingExtra)
    assert line.keys == []
