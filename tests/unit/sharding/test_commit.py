"""E4: a commit over several shards ends the same everywhere, or tells what happened to each."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import IntegrityError

from backstay.errors import OutcomeUnknown
from backstay.sharding import PartialCommit, ShardedSession, ShardMap
from unit.sharding.market import Order, order
from unit.sharding.test_writes import households, rows_by_shard

CHILD = "CREATE TABLE child (id INTEGER, parent INTEGER REFERENCES product (id) DEFERRABLE INITIALLY DEFERRED)"


def fails_at_commit(session: ShardedSession, shard: str) -> None:
    """A deferred foreign key that is not met: the database itself refuses the COMMIT."""
    session.connection_on(shard).exec_driver_sql("INSERT INTO child VALUES (1, 999)")


@pytest.fixture
def deferred(layout: ShardMap) -> ShardMap:
    for engine in layout.engines.values():
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
        with engine.begin() as connection:
            connection.exec_driver_sql(CHILD)
    return layout


def test_E4_partial_commit_names_every_shard(deferred: ShardMap) -> None:
    keys = households(deferred, 4)
    with ShardedSession(deferred, commit="best_effort") as session:
        session.execute(insert(Order), [order(at, key) for at, key in enumerate(keys)])
        fails_at_commit(session, "s2")
        with pytest.raises(PartialCommit) as partial:
            session.commit()
    assert partial.value.committed == ("s0", "s1")
    assert partial.value.rolled_back == ("s2", "s3")
    assert partial.value.unknown == ()
    assert isinstance(partial.value.errors["s2"], IntegrityError)
    assert isinstance(partial.value, OutcomeUnknown) and partial.value.ask["committed"] == ("s0", "s1")
    assert rows_by_shard(deferred) == {"s0": {0}, "s1": {1}, "s2": set(), "s3": set()}


def test_E4_nothing_committed_is_the_plain_error(deferred: ShardMap) -> None:
    keys = households(deferred, 3)
    with ShardedSession(deferred, commit="best_effort") as session:
        session.execute(insert(Order), [order(at, key) for at, key in enumerate(keys)])
        fails_at_commit(session, "s0")
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert session.scalars(select(Order)).all() == []
    assert not any(rows_by_shard(deferred).values())


def test_E4_with_begin_reports_the_same(deferred: ShardMap) -> None:
    one, two = households(deferred, 2)
    session = ShardedSession(deferred, commit="best_effort")
    with pytest.raises(PartialCommit) as partial, session.begin():
        session.add_all([Order(id=1, household_id=one), Order(id=2, household_id=two)])
        session.flush()
        fails_at_commit(session, "s1")
    assert partial.value.committed == ("s0",) and partial.value.rolled_back == ("s1",)
    assert not session.in_transaction()
    session.close()


def test_E4_a_lost_answer_to_commit_is_unknown(deferred: ShardMap, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has no connection to lose, so its dialect pretends; tests/faults does it to a real server."""
    one, two = households(deferred, 2)
    dialect = deferred.engine("s1").dialect

    def lose(connection: Any) -> None:
        connection.commit()
        raise dialect.dbapi.OperationalError("server closed the connection")  # type: ignore[union-attr]  # it has one

    with ShardedSession(deferred, commit="best_effort") as session:
        session.execute(insert(Order), [order(1, one), order(2, two)])
        monkeypatch.setattr(dialect, "do_commit", lose)
        monkeypatch.setattr(dialect, "is_disconnect", lambda *_: True)
        with pytest.raises(PartialCommit) as partial:
            session.commit()
    assert (partial.value.committed, partial.value.rolled_back, partial.value.unknown) == (("s0",), (), ("s1",))


def test_E4_a_single_shard_with_a_lost_answer_is_unknown_too(
    deferred: ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pretended loss, as above."""
    dialect = deferred.engine("s0").dialect

    def lose(connection: Any) -> None:
        raise dialect.dbapi.OperationalError("server closed the connection")  # type: ignore[union-attr]  # it has one

    with ShardedSession(deferred) as session:
        session.execute(insert(Order), [order(1, households(deferred, 1)[0])])
        monkeypatch.setattr(dialect, "do_commit", lose)
        monkeypatch.setattr(dialect, "is_disconnect", lambda *_: True)
        with pytest.raises(PartialCommit) as partial:
            session.commit()
    assert partial.value.unknown == ("s0",) and partial.value.ask["unknown"] == ("s0",)


def test_readers_do_not_count_as_committed(deferred: ShardMap) -> None:
    one = households(deferred, 1)[0]
    with ShardedSession(deferred) as session:
        assert session.scalars(select(Order)).all() == []
        session.execute(insert(Order), [order(1, one)])
        fails_at_commit(session, "s0")
        with pytest.raises(IntegrityError):
            session.commit()
    assert not any(rows_by_shard(deferred).values())


def test_objects_are_expired_after_commit_and_usable(layout: ShardMap) -> None:
    with ShardedSession(layout, commit="best_effort") as session:
        orders = [Order(id=at, household_id=key, cents=at) for at, key in enumerate(households(layout, 4))]
        session.add_all(orders)
        session.commit()
        assert [one.cents for one in orders] == [0, 1, 2, 3]
        orders[1].cents = 9
        session.rollback()
        assert orders[1].cents == 1
