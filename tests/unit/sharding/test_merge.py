"""The merge alone: stable, guarded, cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import Integer, String, column

from backstay.sharding import MergeOrderError
from backstay.sharding.merge import merge_buffered, merge_streams
from backstay.sharding.mergeable import OrderKey
from backstay.sharding.ordering import Reversed, nulls_first, order_key

SHARDS = ("s0", "s1", "s2")


def key(row: Any) -> tuple[Any, ...]:
    return (row[0],)


@given(st.lists(st.lists(st.integers(0, 5)), min_size=3, max_size=3), st.integers(0, 6), st.none() | st.integers(0, 6))
def test_M3_both_ways_to_merge_are_the_stable_sort(values: list[list[int]], offset: int, limit: int | None) -> None:
    streams = [[(value, shard, at) for at, value in enumerate(sorted(part))] for shard, part in enumerate(values)]
    expected = sorted((row for stream in streams for row in stream), key=lambda row: row[0])
    expected = expected[offset : None if limit is None else offset + limit]
    assert merge_buffered(streams, SHARDS, key, offset=offset, limit=limit) == expected
    assert list(merge_streams(streams, SHARDS, key, offset=offset, limit=limit)) == expected


@pytest.mark.parametrize("rows", [[(1,), (3,), (2,)], [(1,), ("a",)]])
def test_M2_the_guard_stops_at_the_first_row_out_of_order(rows: list[Any]) -> None:
    with pytest.raises(MergeOrderError, match="'s1'"):
        merge_buffered([[(0,)], rows, []], SHARDS, key, offset=0, limit=None)
    with pytest.raises(MergeOrderError, match="'s1'"):
        list(merge_streams([[(0,)], rows, []], SHARDS, key, offset=0, limit=None))


def test_M12_streams_are_read_no_further_than_needed() -> None:
    read: list[int] = []

    def endless(shard: int) -> Iterator[tuple[int]]:
        at = 0
        while True:
            read.append(shard)
            yield (at,)
            at += 1

    rows = merge_streams([endless(0), endless(1), endless(2)], SHARDS, key, offset=0, limit=5)
    assert [row[0] for row in rows] == [0, 0, 0, 1, 1]
    assert len(read) <= 5 + 3


@pytest.mark.parametrize(
    ("dialect", "descending", "declared", "first"),
    [
        ("sqlite", False, None, True),
        ("sqlite", True, None, False),
        ("mysql", False, None, True),
        ("mariadb", True, None, False),
        ("postgresql", False, None, False),
        ("postgresql", True, None, True),
        ("postgresql", False, True, True),
        ("sqlite", False, False, False),
    ],
)
def test_M1_null_order_by_dialect(dialect: str, descending: bool, declared: bool | None, first: bool) -> None:
    assert nulls_first(dialect, descending=descending, declared=declared) is first


@given(st.lists(st.none() | st.integers(-3, 3)), st.booleans(), st.booleans())
def test_M1_sort_keys_put_nulls_where_they_belong(values: list[int | None], descending: bool, first: bool) -> None:
    order = OrderKey(expression=column("x", Integer), key=lambda value: value, descending=descending, nulls_first=first)
    known: list[int | None] = [*sorted((value for value in values if value is not None), reverse=descending)]
    nulls: list[int | None] = [None] * (len(values) - len(known))
    assert sorted(values, key=order.of) == (nulls + known if first else known + nulls)


def test_M2_texts_have_an_order_only_where_it_is_known() -> None:
    assert order_key(String(9), "sqlite") is not None
    assert order_key(String(9, collation="C"), "postgresql") is not None
    for type_, dialect in (
        (String(9), "postgresql"),
        (String(9, collation="en_US"), "postgresql"),
        (String(9, collation="NOCASE"), "sqlite"),
        (String(9), "mysql"),
        (String(9, collation="utf8mb4_bin"), "mariadb"),
    ):
        assert order_key(type_, dialect) is None


def test_M2_text_keys_compare_as_the_bytes_do() -> None:
    by_bytes = order_key(String(9), "sqlite")
    assert by_bytes is not None
    texts = ["b", "a", "Z", "é", "\U0001f6d2", "\uffff"]
    assert sorted(texts, key=by_bytes) == sorted(texts, key=str.encode)


def test_reversed_turns_every_comparison() -> None:
    assert Reversed(2) < Reversed(1) and Reversed(1) > Reversed(2) and Reversed(1) == Reversed(1)
    assert Reversed(1) != 1
