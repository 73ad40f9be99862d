"""Before and after: the table of what SQLAlchemy's own horizontal_shard returns (section 1c), beside ours.

100 rows over four databases. The left side documents that extension's behaviour; when a release changes it, this test
says so and the documentation must follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, insert, select
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.horizontal_shard import ShardedSession as Horizontal
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from backstay.sharding import Misplaced, NotMergeable, Rule, ShardedSession, ShardMap


class Base(DeclarativeBase):
    pass


class T(Base):
    __tablename__ = "t"
    k: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    v: Mapped[int]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardMap]:
    folder: Path = tmp_path_factory.mktemp("before")
    engines = {f"s{at}": create_engine(f"sqlite:///{folder}/{at}.db") for at in range(4)}
    layout = ShardMap.slots(engines, rules=[Rule(T, key="k")])
    keys: dict[str, list[int]] = {name: [] for name in engines}
    for key in range(2000):
        owner = keys[layout.shard_of(T, key)]
        if len(owner) < 25:
            owner.append(key)
    for at, (name, engine) in enumerate(engines.items()):
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(T), [{"k": key, "v": place * 4 + at} for place, key in enumerate(keys[name])])
    yield layout
    layout.dispose()


@pytest.fixture
def before(layout: ShardMap) -> Iterator[Any]:
    names = list(layout.shards)
    horizontal: Any = Horizontal
    session: Any = horizontal(
        shard_chooser=lambda mapper, instance, clause=None: layout.shard_of(T, instance.k),
        identity_chooser=lambda mapper, key, **_: [layout.shard_of(T, key[0])],
        execute_chooser=lambda context: names,
        shards=dict(layout.engines),  # pyright: ignore[reportArgumentType]  # engines, as it wants
    )
    yield session
    session.close()


@pytest.fixture
def after(layout: ShardMap) -> Iterator[ShardedSession]:
    with ShardedSession(layout, commit="best_effort") as session:
        yield session


def test_order_by_limit(before: Any, after: ShardedSession) -> None:
    statement = select(T.v).order_by(T.v).limit(5)
    assert len(before.scalars(statement).all()) == 20
    assert after.scalars(statement).all() == [0, 1, 2, 3, 4]


def test_limit_offset(before: Any, after: ShardedSession) -> None:
    statement = select(T.v).order_by(T.v).limit(5).offset(10)
    assert before.scalars(statement).all() != [10, 11, 12, 13, 14]
    assert after.scalars(statement).all() == [10, 11, 12, 13, 14]


def test_count(before: Any, after: ShardedSession) -> None:
    statement = select(func.count()).select_from(T)
    assert before.scalars(statement).all() == [25, 25, 25, 25]
    with pytest.raises(MultipleResultsFound):
        before.execute(statement).scalar_one()
    assert after.execute(statement).scalar_one() == 100


def test_avg(before: Any, after: ShardedSession) -> None:
    statement = select(func.avg(T.v))
    assert len(before.scalars(statement).all()) == 4
    assert after.scalars(statement).all() == [49.5]


def test_group_by_and_distinct_are_refused_instead_of_wrong(before: Any, after: ShardedSession) -> None:
    grouped, distinct = select(T.v % 3, func.count()).group_by(T.v % 3), select(T.v % 3).distinct()
    assert (len(before.execute(grouped).all()), len(before.execute(distinct).all())) == (12, 12)
    for statement in (grouped, distinct):
        with pytest.raises(NotMergeable):
            after.execute(statement)


def test_bulk_insert(before: Any, after: ShardedSession) -> None:
    rows = [{"k": 10_000 + at, "v": 0} for at in range(8)]
    with pytest.raises(NotImplementedError):
        before.execute(insert(T), rows)
    result: Any = after.execute(insert(T), rows)
    assert result.rowcount == 8
    after.rollback()


def test_changed_key(before: Any, after: ShardedSession, layout: ShardMap) -> None:
    one = before.scalars(select(T).limit(1)).first()
    other = next(key for key in range(5000, 6000) if layout.shard_of(T, key) != layout.shard_of(T, one.k))
    one.k = other
    before.flush()
    assert one._sa_instance_state.identity_token != layout.shard_of(T, other)  # the row stayed behind
    before.rollback()
    mine = after.scalars(select(T).order_by(T.k).limit(1)).one()
    mine.k = next(key for key in range(5000, 6000) if layout.shard_of(T, key) != layout.shard_of(T, mine.k))
    with pytest.raises(Misplaced):
        after.flush()
