"""The scripts of Redis and the names of their keys: declared, in one slot, never shared by two resources."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from backstay.locks.backends.redis import scripts
from backstay.locks.backends.redis.answers import granted
from backstay.locks.backends.redis.keys import document_keys, keys_of, resource_of, shared_keys
from backstay.locks.backends.redis.reading import busy, survey_of_lock, survey_of_shared, units_of, units_text
from backstay.locks.backends.redis.scripts import Script, load
from backstay.locks.claims import KINDS, MUTEX, READ, WRITE, Claim, Resource, permits, stripes, whole

SHARED = 6
KEYS = {
    "take": 5,
    "release": 4,
    "renew": 1,
    "withdraw": 5,
    "take_shared": SHARED + 1,
    "release_shared": SHARED,
    "renew_shared": 2,
    "withdraw_shared": SHARED + 1,
    "lessen": SHARED,
    "resize": SHARED,
    "inspect": 3,
    "inspect_shared": 5,
    "scan": 0,
    "document_read": 1,
    "document_write": 2,
    "document_delete": 2,
    "document_watch": 1,
    "document_unwatch": 1,
}
ALL = {each.name: each for each in vars(scripts).values() if isinstance(each, Script)}


def test_every_script_is_known_here() -> None:
    assert set(ALL) == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_R8_a_script_uses_declared_keys_only(name: str) -> None:
    text = ALL[name].text
    assert {int(number) for number in re.findall(r"KEYS\[(\d)\]", text)} <= set(range(1, KEYS[name] + 1))
    for command, arguments in re.findall(r"redis\.call\('(\w+)'([^)]*)\)", text):
        if command not in ("TIME", "PUBLISH", "PUBSUB", "SCAN"):
            assert arguments.startswith(", KEYS["), f"{name}: {command} names a key of its own"
    assert "--@" not in text
    assert text == load(name).text


def test_R13_no_script_asks_for_all_keys() -> None:
    assert not [name for name, script in ALL.items() if re.search(r"'(KEYS|FLUSH\w*|RANDOMKEY)'", script.text)]


def test_R10_only_what_takes_is_confirmed_by_replicas() -> None:
    assert {name for name, script in ALL.items() if script.grants} == {"take", "take_shared"}
    assert [granted(answer) for answer in (b"17", b"withdrawn", 4, [1, b"1", 0, b""])] == [True, False, False, False]


NAME = st.text(st.sampled_from("a:{}%7BD|\né*?[]"), min_size=1, max_size=8)
RESOURCE = st.builds(Resource, NAME, st.sampled_from(sorted(KINDS)))


def keys(resource: Resource) -> set[str]:
    if resource.kind == "lock":
        return {*keys_of("s", resource.name), *document_keys("s", resource)}
    shared = shared_keys("s", resource)
    return {*shared, shared.tombstone("h-1-x-1"), *document_keys("s", resource)}


@given(RESOURCE, RESOURCE)
def test_R8_keys_are_in_one_slot_and_never_those_of_another_resource(one: Resource, other: Resource) -> None:
    mine = keys(one)
    assert len({key[key.index("{") : key.index("}")] for key in mine}) == 1, "the hash tag ends at the first brace"
    assert len(mine) == (6 if one.kind == "lock" else 9)
    assert (one == other) or not mine & keys(other)


@given(RESOURCE)
def test_the_keys_tell_their_resource(resource: Resource) -> None:
    told = {key.rpartition(":")[2]: resource_of(key) for key in keys(resource)}
    named = ("owner", "queue") if resource.kind == "lock" else ("holders", "queue")
    assert {part for part, found in told.items() if found is not None} == set(named)
    assert {told[part] for part in named} == {resource}
    assert resource_of("backstay:s:{x}:unheard-of:holders") is None


@pytest.mark.parametrize("claim", [MUTEX, READ, WRITE, permits(3, 7), stripes([2, 0, 1], 4), whole(9)])
def test_units_are_read_as_they_were_written(claim: Claim) -> None:
    assert units_of(units_text(claim.units)) == claim.units


def test_units_of_two_capacities_differ_in_the_store() -> None:
    assert units_text(permits(1, 4).units) == ",1,0"
    assert units_text(stripes([1], 4).units) == "*,1,1073741824;1,1,1"


def test_a_survey_leaves_out_what_has_ended() -> None:
    now = b"5000000"
    queue = [b"w1", b"dead", b"w2", b"unknown"]
    waiters = [b"w2", b"5000000|9|,1,0|box", b"dead", b"4999999|9|,1,0|box", b"w1", b"9000000|9|,2,0|box"]
    ends = [b"over", b"5000000", b"lost", b"7000000", b"second", b"8000000", b"first", b"9500000"]
    holders = [b"second", b"4000002|,1,0", b"=", b"4", b"first", b"4000001|,3,0", b"over", b"1|,1,0"]
    survey = survey_of_shared([now, b"7", queue, waiters, ends, holders])
    assert survey.size == 7
    assert [(each.token, each.fence, each.left) for each in survey.holders] == [
        ("first", 4000001, 4.5),
        ("second", 4000002, 3.0),
    ]
    assert survey.holders[0].age == pytest.approx(0.999999)
    assert [(each.token, each.units[0].weight) for each in survey.waiters] == [("w1", 2), ("w2", 1)]


def test_a_survey_of_a_lock_shows_a_foreign_owner_as_it_stands() -> None:
    survey = survey_of_lock([b"5000000", b"somebody", -1, [], []])
    assert [(each.token, each.fence, each.left) for each in survey.holders] == [("somebody", 0, None)]
    ours = survey_of_lock([b"5000000", b"h-1-a-1|3000000", 1500, [b"w"], [b"w", b"5000000|10|box"]])
    assert [(each.token, each.fence, each.age, each.left) for each in ours.holders] == [("h-1-a-1", 3000000, 2.0, 1.5)]
    assert [each.token for each in ours.waiters] == ["w"]
    assert survey_of_lock([b"5000000", b"", -2, [], []]) == (0, [], [])


def test_R5_an_overtaken_take_is_an_answer_for_nobody() -> None:
    assert busy(b"withdrawn") == (None, 0.0, 0, "")
    assert busy([-1, b"1500000", 2, b""]) == (None, 1.5, 2, "")
    assert busy([0, b"1500000", 2, b"h-1-a-1|77"]) == (0.0, 1.5, 2, "h-1-a-1")
