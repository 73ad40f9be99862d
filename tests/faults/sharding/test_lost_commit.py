"""A lost answer to COMMIT, on a real server behind a proxy: nobody knows, and the report says so (E4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import create_engine, insert, make_url, select

from backstay.sharding import PartialCommit, ShardedSession, ShardMap
from backstay.testing.proxy import FaultProxy
from unit.sharding.market import Base, Order, layout_of, order
from unit.sharding.test_writes import households


@pytest.fixture
def behind_proxies(postgres_urls: Callable[[int], list[str]]) -> Iterator[tuple[ShardMap, list[FaultProxy]]]:
    """Two shards, each behind a proxy of its own."""
    urls = [make_url(url) for url in postgres_urls(2)]
    for url in urls:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
    with (
        FaultProxy(urls[0].host or "", urls[0].port or 5432) as one,
        FaultProxy(urls[1].host or "", urls[1].port or 5432) as two,
    ):
        proxies = [one, two]
        layout = layout_of({f"s{at}": url.set(host="127.0.0.1", port=proxies[at].port) for at, url in enumerate(urls)})
        yield layout, proxies
        layout.dispose()


def ids(layout: ShardMap, shard: str) -> list[int]:
    with layout.engine(shard).connect() as connection:
        return list(connection.scalars(select(Order.__table__.c.id)))


@pytest.mark.parametrize("reached", [True, False])
def test_E4_a_lost_answer_to_the_second_commit(
    behind_proxies: tuple[ShardMap, list[FaultProxy]], reached: bool
) -> None:
    layout, proxies = behind_proxies
    first, second = households(layout, 2)
    with ShardedSession(layout, commit="best_effort") as session:
        session.execute(insert(Order), [order(1, first), order(2, second)])
        if reached:
            proxies[1].drop_replies(matching=b"COMMIT", times=1)
        else:
            proxies[1].drop_requests(matching=b"COMMIT", times=1)
        with pytest.raises(PartialCommit) as partial:
            session.commit()
    assert (partial.value.committed, partial.value.rolled_back, partial.value.unknown) == (("s0",), (), ("s1",))
    assert ids(layout, "s0") == [1]
    assert ids(layout, "s1") == ([2] if reached else [])  # the same report for both, as it must be


def test_E4_a_lost_answer_of_the_only_shard(behind_proxies: tuple[ShardMap, list[FaultProxy]]) -> None:
    layout, proxies = behind_proxies
    with ShardedSession(layout) as session:
        session.execute(insert(Order), [order(1, households(layout, 1)[0])])
        proxies[0].drop_replies(matching=b"COMMIT", times=1)
        with pytest.raises(PartialCommit) as partial:
            session.commit()
        assert partial.value.unknown == ("s0",)
    assert ids(layout, "s0") == [1]


def test_E4_a_dead_shard_before_commit_commits_nothing(behind_proxies: tuple[ShardMap, list[FaultProxy]]) -> None:
    layout, proxies = behind_proxies
    first, second = households(layout, 2)
    with ShardedSession(layout, commit="best_effort") as session:
        session.execute(insert(Order), [order(1, first), order(2, second)])
        proxies[0].cut()
        with pytest.raises(PartialCommit) as partial:
            session.commit()
    # The first shard's COMMIT was sent into a cut line: unknown; the second was never asked.
    assert partial.value.unknown == ("s0",) and partial.value.rolled_back == ("s1",) and not partial.value.committed
    proxies[0].heal()
    assert ids(layout, "s0") == [] and ids(layout, "s1") == []


def test_E7_a_dead_shard_does_not_stop_the_others(behind_proxies: tuple[ShardMap, list[FaultProxy]]) -> None:
    layout, proxies = behind_proxies
    alive = households(layout, 2)[1]
    proxies[0].cut()
    for _ in range(5):
        with ShardedSession(layout) as session:
            assert session.scalars(select(Order).where(Order.household_id == alive)).all() == []
