"""R1 to R9: where a statement goes. Exact on a fixed list, and never too narrow for any."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, and_, bindparam, false, func, lambda_stmt, literal, not_, or_, select, true, tuple_
from sqlalchemy.orm import aliased

from backstay.sharding import BadKey, NotMergeable, ShardedSession, ShardMap, Unroutable
from backstay.sharding.plans import Values, plan_select
from backstay.sharding.reads import any_shard
from unit.sharding.market import Coupon, Line, Order

K = Order.household_id
A = aliased(Order)
EVERY = {"s0", "s1", "s2", "s3"}


def shards_of(layout: ShardMap, statement: Any, params: dict[str, Any] | None = None) -> set[str]:
    plan, key = layout.plans.find(statement, lambda key: plan_select(statement, key, layout))
    return {layout.shards[at] for at in plan.route(Values(key, params), layout)}


def of_keys(layout: ShardMap, *keys: int) -> set[str]:
    return {layout.shard_of(Order, key) for key in keys}


EXACT: dict[str, tuple[Any, tuple[int, ...]]] = {
    "R2 equal": (K == 5, (5,)),
    "R2 reversed": (literal(5) == K, (5,)),
    "R2 in": (K.in_([5, 6]), (5, 6)),
    "R2 in, NULL dropped": (K.in_([5, None]), (5,)),
    "R2 in of nothing": (K.in_([]), ()),
    "R2 in of NULL": (K.in_([None]), ()),
    "R2 row value in": (tuple_(Order.id, K).in_([(1, 5), (2, 6)]), (5, 6)),
    "R2 is NULL": (K.is_(None), ()),
    "R2 in of expressions": (K.in_([literal(5), literal(6)]), (5, 6)),
    "R3 between": (K.between(3, 5), (3, 4, 5)),
    "R3 between, lower above upper": (K.between(5, 3), ()),
    "R3 closed ends": (and_(K >= 3, K <= 4), (3, 4)),
    "R3 open ends": (and_(K > 3, K < 5), (4,)),
    "R3 open ends, nothing": (and_(K > 3, K < 4), ()),
    "R3 reversed ends": (and_(literal(3) < K, literal(5) > K), (4,)),
    "R4 not not": (not_(K != 5), (5,)),
    "R4 De Morgan of or": (not_(or_(K != 5, Order.id == 1)), (5,)),
    "R4 De Morgan of and": (not_(and_(K != 5, K != 6)), (5, 6)),
    "R4 not between": (and_(not_(~K.between(3, 4))), (3, 4)),
    "R5 or": (or_(K == 5, K == 6), (5, 6)),
    "R5 or with a contradiction": (or_(K == 5, and_(K == 1, K == 2)), (5,)),
    "R5 or false": (or_(K == 5, false()), (5,)),
    "R6 contradiction": (and_(K == 1, K == 2), ()),
    "R6 equal and outside": (and_(K == 1, K > 4), ()),
    "R6 false": (and_(K == 1, false()), ()),
    "and narrows": (and_(K.in_([1, 2, 3]), K > 2, Order.cents == 4), (3,)),
    "and true": (and_(K == 5, true()), (5,)),
}
WIDE: dict[str, Any] = {
    "R4 unequal": K != 5,
    "R4 not in": K.not_in([5]),
    "R4 function of the key": func.abs(K) == 5,
    "R4 arithmetic": K + 1 == 5,
    "R4 other column": Order.id == K,
    "R4 not equal, by not": not_(K == 5),
    "R3 long interval": K.between(1, 1000),
    "R3 half open": K > 5,
    "R5 a branch without a key": or_(K == 5, Order.cents == 1),
    "R5 many terms": or_(*(K == at for at in range(65))),
    "no predicate": true(),
    "R4 cast of the key": K.cast(Order.note.type) == "5",
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_routes(layout: ShardMap, name: str) -> None:
    clause, keys = EXACT[name]
    assert shards_of(layout, select(Order).where(clause)) == of_keys(layout, *keys)


@pytest.mark.parametrize("name", WIDE)
def test_wide_routes(layout: ShardMap, name: str) -> None:
    assert shards_of(layout, select(Order).where(WIDE[name])) == EVERY


def test_R2_all_ways_to_give_a_value(layout: ShardMap) -> None:
    k: Any = bindparam("k")
    one = of_keys(layout, 5)
    assert shards_of(layout, select(Order).where(K == k), {"k": 5}) == one
    assert shards_of(layout, select(Order).where(K == k).params(k=5)) == one
    assert shards_of(layout, select(Order).filter_by(household_id=5)) == one
    assert shards_of(layout, select(A).where(A.household_id == 5)) == one
    assert shards_of(layout, select(Order.__table__).where(Order.__table__.c.household_id == 5)) == one
    assert shards_of(layout, select(Order).where(K.in_(bindparam("ks", expanding=True))), {"ks": [5]}) == one
    assert shards_of(layout, select(Order).where(K == bindparam("k", callable_=lambda: 5))) == one


def test_R2_a_missing_value_is_an_error_not_a_wide_route(layout: ShardMap) -> None:
    with pytest.raises(Unroutable, match="'k' was not given"):
        shards_of(layout, select(Order).where(K == bindparam("k")))


@pytest.mark.parametrize("value", ["7", True, 7.5])
def test_R14_a_key_of_another_type_is_refused_on_read(layout: ShardMap, value: Any) -> None:
    statement = select(Order).where(K == bindparam("k", value))
    with pytest.raises(BadKey):
        shards_of(layout, statement)


def test_one_plan_serves_all_values(layout: ShardMap) -> None:
    for at in range(20):
        assert shards_of(layout, select(Order).where(K == at, Order.cents > at)) == of_keys(layout, at)
        assert shards_of(layout, select(Order).where(K.in_(range(at)))) == of_keys(layout, *range(at))
    assert len(layout.plans) == 2


def test_a_lambda_statement_is_routed_by_its_closure(layout: ShardMap) -> None:
    with ShardedSession(layout) as session:
        for at in (1, 5, 9):
            statement = lambda_stmt(lambda: select(Order)).add_criteria(lambda s: s.where(K == at))  # noqa: B023
            assert session.scalars(statement).all() == []
            assert any_shard(session) == layout.shard_of(Order, at)
            session.rollback()


def test_R7_equality_goes_through_joins(layout: ShardMap) -> None:
    joined = select(Order).join(Line, Line.household_id == K)
    assert shards_of(layout, joined.where(Line.household_id == 5)) == of_keys(layout, 5)
    assert shards_of(layout, joined.where(Line.household_id == 5, K == 6)) == set()
    assert shards_of(layout, select(Order).join(Order.lines).where(Line.household_id == 5)) == of_keys(layout, 5)


def test_R7_the_optional_side_never_narrows(layout: ShardMap) -> None:
    in_on = select(Order).outerjoin(Line, and_(Line.order_id == Order.id, Line.household_id == 5, K == 5))
    assert shards_of(layout, in_on) == EVERY
    in_where = select(Order).outerjoin(Order.lines).where(Line.household_id == 5)
    assert shards_of(layout, in_where) == EVERY


def test_R7_an_outer_join_does_not_tie_the_preserved_sides_together(layout: ShardMap) -> None:
    b = aliased(Order)
    statement = (
        select(Order.id)
        .join(b, Order.cents == b.cents)
        .outerjoin(Line, and_(Line.household_id == K, Line.household_id == b.household_id))
    )
    with pytest.raises(NotMergeable):
        shards_of(layout, statement)


def test_R8_a_subquery_on_the_same_key_is_single(layout: ShardMap) -> None:
    inner = select(Line.order_id).where(Line.household_id == 5)
    assert shards_of(layout, select(Order).where(K == 5, Order.id.in_(inner))) == of_keys(layout, 5)
    with pytest.raises(NotMergeable):
        shards_of(layout, select(Order).where(K == 5, Order.id.in_(select(Line.order_id))))


def test_R9_a_name_in_a_literal_is_not_a_table(layout: ShardMap) -> None:
    statement = select(Order).where(Order.note == "orders.household_id = 5")
    assert shards_of(layout, statement) == EVERY


def test_R1_a_predicate_inside_exists_does_not_narrow(layout: ShardMap) -> None:
    statement = select(Order).where(~Order.lines.any(Line.household_id == 5))
    assert shards_of(layout, statement) == EVERY


def test_R6_a_contradiction_asks_no_database(layout: ShardMap) -> None:
    for engine in layout.engines.values():
        engine.dispose()
    with ShardedSession(layout) as session:
        result = session.execute(select(Order.id, Order.note).where(K == 1, K == 2))
        assert list(result.keys()) == ["id", "note"] and result.all() == []
        assert session.scalars(select(Order).where(K.in_([]))).all() == []
        assert not session.in_transaction()


def test_get_by_a_primary_key_that_holds_the_sharding_key(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        assert session.get(Coupon, (5, 1)) is None
        assert any_shard(session) == session.shard_of(Coupon, 5)


def test_get_with_a_global_id_looks_on_all_shards_once(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        one = session.get(Order, 7)
        assert one is not None and one.household_id == 7 * 5 % 24
        assert session.get(Order, 7) is one
        assert session.get(Order, 10**6) is None


def test_get_without_a_way_to_the_shard_is_refused(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        with pytest.raises(Unroutable, match="identity_token"):
            session.get(Line, 3)
        line = session.get(Line, 3, identity_token=session.shard_of(Line, 5))
        assert line is not None and line.household_id == 5
