"""The fence as a header: what is written is read, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse, Unavailable
from backstay.locks import LockLost
from backstay.locks.guards import (
    HEADER,
    FenceMalformed,
    FenceMissing,
    FencingToken,
    MemoryFences,
    StaleFence,
    current_token,
    headers,
)
from backstay.locks.guards.header import read, token_for, write
from backstay.locks.guards.token import carried, token_of

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512)
fences = st.integers(1, 2**63 - 1)


@given(st.lists(st.builds(lambda name, fence: FencingToken(name=name, fence=fence), names, fences),
                min_size=1, max_size=8, unique_by=lambda token: token.name))  # fmt: skip
def test_what_is_written_is_read(tokens: list[FencingToken]) -> None:
    value = write(*tokens)
    assert value.isascii() and value.isprintable()
    assert read(value) == tuple(tokens)
    for token in tokens:
        assert token_for(token.name, value) == token


def test_the_longest_names_fit() -> None:
    token = FencingToken(name="\U0001f512" * 512, fence=2**63 - 1)
    assert read(write(*[FencingToken(name=token.name[:511] + str(n), fence=1) for n in range(8)]))[7].fence == 1
    assert token_for(token.name, write(token)) == token


def test_the_form_of_version_1() -> None:
    token = FencingToken(name="order:42/ä", fence=17)
    assert headers(token) == {HEADER: "1;order%3A42%2F%C3%A4;17"}
    assert read("1;a;1 ,\t1;b;2") == (FencingToken(name="a", fence=1), FencingToken(name="b", fence=2))


@pytest.mark.parametrize(
    "value",
    [
        "", ",", "1;a", "a;17", "1;a;", "1;a;0", "1;a;017", "1;a;-1", "1;a;+1", "1;a;1.0", "1;a;1e3", "1;;1", "2;a;1",
        "1;a;9223372036854775808", "1;a;99999999999999999999", "1;a b;1", "1;a:b;1", "1;ä;1", "1;%;1", "1;%4;1",
        "1;%zz;1", "1;%c3%a4;1", "1;%FF;1", "1;%ED%A0%80;1", "1;a;1;1", "1;a;1,", "1;a;1,1;a;2", "1;a;\u0661",
        "1;a;1\n", "1;" + "a" * 513 + ";1", ",".join(f"1;a{n};1" for n in range(9)), "x" * 100_000,
    ],
)  # fmt: skip
def test_anything_else_is_malformed(value: str) -> None:
    with pytest.raises(FenceMalformed) as broken:
        token_for("a", value)
    assert broken.value.http_status == 400
    assert len(str(broken.value)) < 400


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_fail_in_another_way(value: str) -> None:
    try:
        tokens = read(value)
    except FenceMalformed:
        return
    assert read(write(*tokens)) == tokens


def test_a_missing_fence_says_which() -> None:
    for value in (None, "1;order%3A43;5"):
        with pytest.raises(FenceMissing, match="'order:42'") as missing:
            token_for("order:42", value)
        assert missing.value.http_status == 428


def test_senseless_leases_are_refused() -> None:
    token = FencingToken(name="a", fence=1)
    calls: list[Callable[[], Any]] = [
        headers,
        lambda: headers(*[token] * 9),
        lambda: headers("a"),  # type: ignore[arg-type]
        lambda: token_of(None),  # type: ignore[arg-type]
        lambda: MemoryFences(limit=0),
        current_token,
    ]
    for call in calls:
        with pytest.raises(Misuse):
            call()


def test_the_current_token_is_that_of_the_innermost_block() -> None:
    first, second = FencingToken(name="a", fence=1), FencingToken(name="b", fence=2)
    with carried(first):
        with carried(second):
            assert current_token() == second
        assert current_token() == first
    with pytest.raises(Misuse):
        current_token()


# -- fences in memory


def test_F6_memory_remembers_the_highest() -> None:
    store = MemoryFences()
    for fence in (5, 5, 7, 7):
        store.admit(FencingToken(name="a", fence=fence))
    with pytest.raises(StaleFence) as stale:
        store.admit(FencingToken(name="a", fence=6))
    assert (stale.value.lock, stale.value.fence, stale.value.highest) == ("a", 6, 7)
    assert isinstance(stale.value, LockLost) and stale.value.reason == "overtaken"
    assert stale.value.http_status == 409
    store.admit(FencingToken(name="b", fence=1))  # another lock's numbers mean nothing here (F7)


def test_memory_refuses_a_further_lock_rather_than_forget_one() -> None:
    store = MemoryFences(limit=2)
    for name in ("a", "b", "a"):
        store.admit(FencingToken(name=name, fence=5))
    with pytest.raises(Unavailable, match="2 locks"):
        store.admit(FencingToken(name="c", fence=5))
    with pytest.raises(StaleFence):
        store.admit(FencingToken(name="a", fence=4))


def test_F6_memory_under_threads_lets_no_lower_fence_follow_a_higher() -> None:
    store = MemoryFences()
    passed: list[int] = []
    refused: list[tuple[int, int]] = []

    def send(fence: int) -> None:
        try:
            store.admit(FencingToken(name="a", fence=fence))
        except StaleFence as stale:
            refused.append((fence, stale.highest or 0))
        else:
            passed.append(fence)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, [n * 7919 % 1000 + 1 for n in range(4000)]))
    assert max(passed) == 1000
    assert refused and all(fence < highest for fence, highest in refused)
    with pytest.raises(StaleFence):
        store.admit(FencingToken(name="a", fence=999))
