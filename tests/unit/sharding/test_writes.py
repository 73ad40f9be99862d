"""R11 to R13 and the flush: each row on its shard, or a refusal before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from backstay.sharding import (
    BadKey,
    CrossShardWrite,
    Misplaced,
    ShardedSession,
    ShardMap,
    UnitPoisoned,
    Unkeyed,
    Unroutable,
)
from unit.sharding.market import Coupon, Line, Order, Product, Stray, Visit, order

T: Any = Order.__table__


def households(layout: ShardMap, count: int) -> list[int]:
    """Keys on as many different shards."""
    found: dict[str, int] = {}
    for key in range(1000):
        found.setdefault(layout.shard_of(Order, key), key)
    return [found[name] for name in layout.shards][:count]


def rows_by_shard(layout: ShardMap, table: Any = T) -> dict[str, set[int]]:
    rows: dict[str, set[int]] = {}
    for name, engine in layout.engines.items():
        with engine.connect() as connection:
            rows[name] = set(connection.scalars(select(table.c.id)))
    return rows


def best_effort(layout: ShardMap) -> ShardedSession:
    return ShardedSession(layout, commit="best_effort")


def test_flush_puts_objects_on_their_shards(layout: ShardMap) -> None:
    keys = households(layout, 4)
    with best_effort(layout) as session:
        session.add_all(Order(id=at, household_id=key, cents=1) for at, key in enumerate(keys))
        session.commit()
    assert rows_by_shard(layout) == {name: {at} for at, name in enumerate(layout.shards)}
    with best_effort(layout) as session:
        for one in session.scalars(select(Order)):
            one.cents = 5
            assert inspect(one).identity_token == layout.shard_of(Order, one.household_id)
        session.commit()
        assert session.scalar(select(func.sum(Order.cents))) == 20
        session.delete(session.scalars(select(Order).where(Order.household_id == keys[2])).one())
        session.commit()
    assert rows_by_shard(layout)["s2"] == set()


def test_a_child_without_a_key_gets_its_parents(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        session.add(Order(id=1, household_id=7, lines=[Line(id=1, product_id=1, quantity=1)]))
        session.commit()
        assert session.scalars(select(Line.household_id).where(Line.household_id == 7)).all() == [7]


def test_a_child_away_from_its_parent_is_refused_before_anything_is_sent(layout: ShardMap) -> None:
    here, there = households(layout, 2)
    with best_effort(layout) as session:
        session.add(Order(id=1, household_id=here, lines=[Line(id=1, household_id=there, product_id=1, quantity=1)]))
        with pytest.raises(Misplaced, match="lines"):
            session.flush()
    assert not any(rows_by_shard(layout).values())


def test_a_loaded_child_moved_to_a_parent_of_another_shard_is_refused(layout: ShardMap) -> None:
    here, there = households(layout, 2)
    with best_effort(layout) as session:
        session.add(Order(id=1, household_id=here, lines=[Line(id=1, product_id=1, quantity=1)]))
        session.add(Order(id=2, household_id=there))
        session.commit()
        line = session.scalars(select(Line)).one()
        other = session.scalars(select(Order).where(Order.id == 2)).one()
        other.lines.append(line)
        with pytest.raises(Misplaced):
            session.flush()


def test_R13_a_changed_sharding_key_is_refused_unless_the_row_stays(layout: ShardMap) -> None:
    here, there = households(layout, 2)
    twin = next(key for key in range(here + 1, 999) if layout.shard_of(Order, key) == layout.shard_of(Order, here))
    with ShardedSession(layout) as session:
        session.add(Order(id=1, household_id=here))
        session.commit()
        one = session.scalars(select(Order)).one()
        one.household_id = there
        with pytest.raises(Misplaced, match="delete the object"):
            session.flush()
        one.household_id = twin
        session.commit()
        assert session.scalars(select(Order.id).where(Order.household_id == twin)).all() == [1]


@pytest.mark.parametrize("value", [None, "7", True])
def test_R14_a_key_of_another_type_is_refused_on_write(layout: ShardMap, value: Any) -> None:
    with ShardedSession(layout) as session:
        session.add(Order(id=1, household_id=value))
        with pytest.raises(BadKey):
            session.flush()
        session.rollback()
        with pytest.raises(BadKey):
            session.execute(insert(Order), [{"id": 1, "household_id": value}])
    assert not any(rows_by_shard(layout).values())


def test_mode_single_refuses_the_second_shard_before_anything_is_sent(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with ShardedSession(layout) as session:
        session.add_all([Order(id=1, household_id=one), Order(id=2, household_id=two)])
        with pytest.raises(CrossShardWrite, match="best_effort"):
            session.flush()
        session.rollback()
        with pytest.raises(CrossShardWrite):
            session.execute(insert(Order), [order(1, one), order(2, two)])
        session.rollback()
        session.execute(insert(Order), order(3, one))
        with pytest.raises(CrossShardWrite):
            session.connection_of(Order, two)
        assert session.connection_of(Order, two, read_only=True).scalar(text("SELECT count(*) FROM orders")) == 0
        session.commit()
        session.execute(insert(Order), order(4, two))  # a new unit of work
        session.commit()
    assert sorted(at for rows in rows_by_shard(layout).values() for at in rows) == [3, 4]


def test_mode_single_does_not_count_objects_that_were_only_touched(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with best_effort(layout) as session:
        session.add_all([Order(id=1, household_id=one, cents=1), Order(id=2, household_id=two, cents=1)])
        session.commit()
    with ShardedSession(layout) as session:
        first, second = session.scalars(select(Order).order_by(Order.id))
        first.cents, second.cents = 2, 1
        session.commit()
    with ShardedSession(layout) as session:
        assert session.scalars(select(Order.cents).order_by(Order.id)).all() == [2, 1]


@pytest.mark.parametrize("target", [Order, T])
def test_R11_a_list_is_split_and_RETURNING_keeps_the_callers_order(layout: ShardMap, target: Any) -> None:
    rows = [order(at, at * 5 % 17) for at in range(40)]
    with best_effort(layout) as session:
        result = session.execute(insert(target).returning(T.c.id, T.c.household_id), rows)
        assert [tuple(row) for row in result] == [(row["id"], row["household_id"]) for row in rows]
        session.commit()
    placed = rows_by_shard(layout)
    assert {
        name: {row["id"] for row in rows if layout.shard_of(Order, row["household_id"]) == name} for name in placed
    } == placed


def test_R11_returned_objects_carry_their_shard(layout: ShardMap) -> None:
    """Rows with the same primary key on two shards are two objects."""
    one, two = households(layout, 2)
    with best_effort(layout) as session:
        rows = [{"household_id": one, "id": 1, "cents": 10}, {"household_id": two, "id": 1, "cents": 20}]
        coupons = session.scalars(insert(Coupon).returning(Coupon), rows).all()
        orders = session.scalars(insert(Order).returning(Order), [order(1, one), order(1, two)]).all()
        assert [coupon.cents for coupon in coupons] == [10, 20]
        assert orders[0] is not orders[1]
        assert [inspect(each).identity_token for each in orders] == ["s0", "s1"]
        updated = session.scalars(update(Order).where(Order.household_id == two).values(cents=3).returning(Order)).all()
        assert updated == [orders[1]]


def test_R11_rowcount_is_the_sum_and_known_by_shard(layout: ShardMap) -> None:
    with best_effort(layout) as session:
        result: Any = session.execute(insert(Order), [order(at, at) for at in range(30)])
        assert result.rowcount == 30 and sum(result.rowcounts.values()) == 30
        updated: Any = session.execute(update(Order).where(Order.household_id.in_([1, 2, 3, 5])).values(cents=0))
        assert updated.rowcount == 4 and len(updated.rowcounts) > 1


def test_R11_one_row_by_values(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        session.execute(insert(Order).values(**order(1, 7)))
        session.execute(insert(T).values([order(2, 7), order(3, 7)]))
        session.execute(insert(Order).values(household_id=7), {"id": 4, "paid": False})
        session.commit()
        assert session.scalars(select(Order.id).where(Order.household_id == 7).order_by(Order.id)).all() == [1, 2, 3, 4]


def test_R11_refused_inserts(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with best_effort(layout) as session:
        with pytest.raises(Unroutable, match="several shards"):
            session.execute(insert(Order).values([order(1, one), order(2, two)]))
        with pytest.raises(Unroutable, match="SELECT"):
            session.execute(insert(T).from_select(["id", "household_id"], select(T.c.id, T.c.household_id)))
        with pytest.raises(Unroutable, match="household_id"):
            session.execute(insert(Order), [{"id": 1}])
        with pytest.raises(Unroutable, match="plain value"):
            session.execute(insert(Order).values(id=1, household_id=select(func.max(T.c.id)).scalar_subquery()))
        with pytest.raises(Unroutable, match="broadcast"):
            session.execute(insert(Product), [{"id": 1, "name": "x"}])
        with pytest.raises(ValueError, match="no rule"):
            session.execute(insert(Stray), [{"id": 1}])
        session.add(Stray(id=1))
        with pytest.raises(Unroutable, match="Stray"):
            session.flush()
    assert not any(rows_by_shard(layout).values())


def test_R11_upsert_on_its_shard_and_never_of_the_key(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        for cents in (1, 2):
            statement = sqlite_insert(Order).values(**order(1, 7, cents=cents))
            session.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_={"cents": statement.excluded.cents})
            )
        assert session.scalars(select(Order.cents).where(Order.household_id == 7)).all() == [2]
        statement = sqlite_insert(Order).values(**order(1, 7))
        with pytest.raises(Misplaced):
            session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"household_id": 8}))


def test_R12_writes_without_a_key_are_refused_unless_allowed(layout: ShardMap) -> None:
    with best_effort(layout) as session:
        session.execute(insert(Order), [order(at, at) for at in range(20)])
        session.commit()
        for statement in (update(Order).values(cents=0), delete(Order).where(Order.cents > 3)):
            with pytest.raises(Unkeyed, match="scatter_writes"):
                session.execute(statement)
        result: Any = session.execute(delete(Order).execution_options(scatter_writes=True))
        assert result.rowcount == 20 and set(result.rowcounts) == set(layout.shards)


def test_R12_mode_single_writes_one_shard_only(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with ShardedSession(layout) as session, pytest.raises(CrossShardWrite):
        session.execute(delete(Order).where(Order.household_id.in_([one, two])))


def test_R13_update_of_the_key(layout: ShardMap) -> None:
    here, there = households(layout, 2)
    with ShardedSession(layout) as session:
        session.execute(insert(Order), [order(1, here)])
        for values in ({"household_id": there}, {"household_id": Order.household_id + 1}):
            with pytest.raises(Misplaced):
                session.execute(update(Order).where(Order.household_id == here).values(values))
        with pytest.raises(Misplaced):
            session.execute(update(Order).where(Order.household_id == here), {"household_id": there})
        session.execute(update(Order).where(Order.household_id == here).values(household_id=here, cents=9))
        assert session.scalars(select(Order.cents).where(Order.household_id == here)).all() == [9]


def test_R6_a_contradiction_writes_nothing(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        result: Any = session.execute(update(Order).where(Order.household_id.in_([])).values(cents=1))
        assert result.rowcount == 0 and not session.in_transaction()


def test_orm_update_and_delete_touch_the_objects_of_their_shard_only(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with best_effort(layout) as session:
        orders = [Order(id=1, household_id=one, cents=1), Order(id=1, household_id=two, cents=1)]
        session.add_all(orders)
        session.flush()
        for strategy in ("evaluate", "fetch"):
            session.execute(
                update(Order).where(Order.household_id == two, Order.id == 1).values(cents=Order.cents + 1),
                execution_options={"synchronize_session": strategy},
            )
        assert [each.cents for each in orders] == [1, 3]
        session.execute(delete(Order).where(Order.household_id == one))
        assert inspect(orders[0]).was_deleted and orders[1] in session


def test_update_with_a_correlated_or_foreign_subquery(layout: ShardMap) -> None:
    quantity = select(func.sum(Line.quantity)).where(Line.order_id == Order.id).scalar_subquery()
    elsewhere = select(func.max(Line.quantity)).scalar_subquery()
    with ShardedSession(layout) as session:
        session.add(Order(id=1, household_id=7, lines=[Line(id=1, product_id=1, quantity=4)]))
        session.flush()
        session.execute(
            update(Order).where(Order.household_id == 7).values(cents=quantity),
            execution_options={"synchronize_session": False},
        )
        assert session.scalars(select(Order.cents).where(Order.household_id == 7)).one() == 4
        with pytest.raises(Unroutable, match="same shard"):
            session.execute(update(Order).where(Order.household_id == 7).values(cents=elsewhere))
        with pytest.raises(Unroutable, match="reads"):
            session.execute(update(Order).where(Order.household_id == 7, Order.id == Line.order_id).values(cents=1))


def test_merge_finds_objects_on_their_shards(layout: ShardMap) -> None:
    with best_effort(layout) as session:
        session.add_all(Coupon(household_id=key, id=1, cents=key) for key in range(6))
        session.commit()
        for key in range(6):
            merged = session.merge(Coupon(household_id=key, id=1, cents=100 + key))
            assert inspect(merged).persistent
        session.commit()
        assert session.scalar(select(func.count()).select_from(Coupon)) == 6
        assert session.scalars(select(Coupon.cents).order_by(Coupon.cents)).all() == [100 + key for key in range(6)]


def test_bulk_methods_are_refused(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        for call in (
            lambda: session.bulk_save_objects([Order(id=1, household_id=7)]),
            lambda: session.bulk_insert_mappings(inspect(Order), [order(1, 7)]),
            lambda: session.execute(update(Order), [{"id": 1, "cents": 2}]),
        ):
            with pytest.raises(Unroutable):
                call()
        with pytest.raises(Unroutable, match="connection_on"):
            session.connection()


def test_E4_a_failed_statement_turns_the_commit_into_a_rollback_everywhere(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    with best_effort(layout) as session:
        session.execute(insert(Order), [order(1, one), order(2, two)])
        with pytest.raises(IntegrityError) as failed:
            session.execute(insert(Order), [order(1, one)])
        assert "on shard 's0'" in failed.value.__notes__
        with pytest.raises(UnitPoisoned):
            session.commit()
        assert not session.in_transaction()
        session.execute(insert(Order), [order(3, one)])
        session.commit()
    assert rows_by_shard(layout) == {"s0": {3}, "s1": set(), "s2": set(), "s3": set()}


def test_E4_a_failure_inside_a_savepoint_does_not_poison(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        session.execute(insert(Order), [order(1, 7)])
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(Order), [order(1, 7)])
        session.commit()
    assert sum(map(len, rows_by_shard(layout).values())) == 1


def test_E5_nothing_of_one_request_is_seen_in_the_next(layout: ShardMap) -> None:
    one, two = households(layout, 2)
    for key, at in ((one, 1), (two, 2), (one, 3)):
        with ShardedSession(layout) as session, session.begin():
            session.add(Order(id=at, household_id=key))
    assert {name: rows for name, rows in rows_by_shard(layout).items() if rows} == {"s0": {1, 3}, "s1": {2}}


def test_the_connection_of_a_key_shares_the_sessions_transaction(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        connection = session.connection_of(Order, 7)
        connection.execute(insert(T), order(1, 7))
        session.add(Order(id=2, household_id=7))
        session.flush()
        assert connection.scalar(text("SELECT count(*) FROM orders")) == 2
        session.rollback()
    assert not any(rows_by_shard(layout).values())


def test_a_uuid_key(layout: ShardMap) -> None:
    import uuid

    tokens = [uuid.UUID(int=at * 7919) for at in range(20)]
    with best_effort(layout) as session:
        session.add_all(Visit(token=token, page="/") for token in tokens)
        session.commit()
        assert session.get(Visit, tokens[3]).token == tokens[3]  # type: ignore[union-attr]  # it is there
        assert session.scalars(select(Visit.token).order_by(Visit.token)).all() == sorted(tokens)
