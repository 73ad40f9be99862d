"""The layout: immutable, printable, checked when it is made."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from backstay.errors import Misuse
from backstay.sharding import AsyncShardedSession, BadKey, Broadcast, Rule, ShardedSession, ShardMap
from unit.sharding.market import RULES, Base, Line, Order, Product

TWO = {"a": "sqlite:///a.db", "b": "sqlite:///b.db"}


def make(**changes: Any) -> ShardMap:
    return ShardMap.slots(**({"databases": TWO, "rules": RULES} | changes))


def test_slots_are_shared_equally_by_default() -> None:
    layout = make(slots=10)
    assert layout.owners == (0,) * 5 + (1,) * 5


def test_owners_can_be_given() -> None:
    layout = make(slots=4, owners={"b": [range(1), range(2, 4)], "a": [range(1, 2)]})
    assert layout.owners == (1, 0, 1, 1)
    assert "b: slots 0-0, 2-3" in str(layout)


def test_it_is_immutable_and_printable() -> None:
    layout = make(epoch=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        layout.epoch = 4  # type: ignore[misc]  # on purpose
    assert "epoch 3" in str(layout) and "table line by household_id with orders" in str(layout)
    assert (
        "product on every shard" in str(layout) and repr(layout) == "ShardMap(epoch=3, slots=1024, shards=['a', 'b'])"
    )


def test_passwords_are_not_printed() -> None:
    layout = make(databases={"a": "postgresql+psycopg://u:hunter2@localhost/a"})
    assert "hunter2" not in str(layout) + repr(layout)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"databases": {}}, "at least one database"),
        ({"databases": {"": "sqlite://"}}, "non-empty"),
        ({"databases": {0: "sqlite://"}}, "non-empty"),
        ({"databases": {"a": "no url"}}, "no database URL"),
        ({"databases": {"a": "postgresql+psycopg://u:hunter2@h:port/a"}}, "no database URL"),
        ({"databases": {"a": "sqlite://", "b": "postgresql+psycopg://h/b"}}, "one dialect"),
        ({"databases": {"a": "sqlite://", "b": "sqlite+aiosqlite://"}}, "asyncio"),
        ({"slots": 1}, "slots must be"),
        ({"slots": 1 << 21}, "slots must be"),
        ({"epoch": 0}, "epoch"),
        ({"slots": 4, "owners": {"a": [range(3)]}}, "slot 3 has no owner"),
        ({"slots": 4, "owners": {"a": [range(4)], "b": [range(1)]}}, "two owners"),
        ({"slots": 4, "owners": {"c": [range(4)]}}, "no database"),
        ({"slots": 4, "owners": {"a": [range(5)]}}, "outside"),
        ({"rules": [Rule(Order, key="household")]}, "household_id"),
        ({"rules": [Rule(Order, key="placed_at")]}, "no stable hash"),
        ({"rules": [Rule(Order, key="household_id"), Broadcast(Order)]}, "two rules"),
        ({"rules": [Rule(Line, key="household_id", with_=Order)]}, "needs a Rule"),
        ({"rules": [Rule("orders", key="household_id")]}, "no mapped class"),
    ],
)
def test_bad_layouts_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Misuse, match=words) as error:
        make(**changes)
    assert "hunter2" not in str(error.value)


def test_two_shards_on_one_engine_are_refused() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(Misuse, match="same engine"):
        make(databases={"a": engine, "b": engine})


def test_text_keys_need_a_collation_that_tells_all_texts_apart() -> None:
    def table(type_: Any) -> Table:
        return Table("t", MetaData(), Column("k", type_, primary_key=True))

    mysql = {"a": "mysql+pymysql://h/a"}
    with pytest.raises(Misuse, match="utf8mb4_bin"):
        make(databases=mysql, rules=[Rule(table(String(9)), key="k")])
    make(databases=mysql, rules=[Rule(table(String(9, collation="utf8mb4_bin")), key="k")])
    with pytest.raises(Misuse, match="NOCASE"):
        make(rules=[Rule(table(String(9, collation="NOCASE")), key="k")])
    with pytest.raises(Misuse, match="stable hash"):
        make(rules=[Rule(table(DateTime()), key="k")])


def test_a_core_table_can_have_a_rule() -> None:
    table = Table("t", MetaData(), Column("k", Integer, primary_key=True))
    layout = make(rules=[Rule(table, key="k")])
    assert layout.shard_of(table, 5) in ("a", "b")
    with pytest.raises(Misuse, match="no rule"):
        layout.shard_of(Order, 5)


def test_shard_of_checks_the_key() -> None:
    with pytest.raises(BadKey):
        make().shard_of(Order, "5")
    with pytest.raises(Misuse, match="broadcast"):
        make().shard_of(Product, 5)
    with pytest.raises(Misuse, match="there are a, b"):
        make().engine("c")


def test_E6_ten_thousand_tables_start_under_a_second() -> None:
    metadata = MetaData()
    rules = [Rule(Table(f"t{at}", metadata, Column("k", Integer, primary_key=True)), key="k") for at in range(10_000)]
    began = time.process_time()
    layout = make(rules=rules)
    assert time.process_time() - began < 1
    assert len(layout.placements) == 10_000


@pytest.mark.parametrize(
    "options",
    [{"commit": "both"}, {"unkeyed": "sometimes"}, {"unkeyed": 0}, {"bind": create_engine("sqlite://")}],
)
def test_bad_session_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        ShardedSession(make(), **options)


def test_a_session_needs_a_layout_of_its_make() -> None:
    with pytest.raises(Misuse, match="ShardMap"):
        ShardedSession("sqlite://")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(Misuse, match="asyncio"):
        AsyncShardedSession(make())
    AsyncShardedSession(make(databases={"a": create_async_engine("sqlite+aiosqlite://")}))
    assert Base.metadata.tables
