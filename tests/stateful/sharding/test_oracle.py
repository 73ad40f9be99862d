"""Random statements against the master oracle, and random predicates against the rows they let through (R1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings, strategies as st
from sqlalchemy import Engine, and_, bindparam, func, literal, not_, or_, select, tuple_
from sqlalchemy.orm import joinedload, selectinload

from backstay.sharding import ShardMap
from backstay.sharding.plans import Values, plan_select
from backstay.testing.sharding import MasterOracle
from unit.sharding.market import Line, Order, baskets, fill, sqlite_layout, sqlite_whole

K = Order.household_id
KEYS = st.integers(-1, 24)
DEFAULTS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardMap, Engine]]:
    folder = tmp_path_factory.mktemp("oracle")
    layout, whole = sqlite_layout(folder), sqlite_whole(folder)
    fill(layout, whole, *baskets())
    yield layout, whole
    layout.dispose()
    whole.dispose()


def leaves() -> st.SearchStrategy[Any]:
    names = itertools.count()
    return st.one_of(
        KEYS.map(lambda at: K == at),
        KEYS.map(lambda at: literal(at) == K),
        KEYS.map(lambda at: K == bindparam(f"p{next(names)}", at)),
        KEYS.map(lambda at: K != at),
        KEYS.map(lambda at: K > at),
        KEYS.map(lambda at: K <= at),
        KEYS.map(lambda at: literal(at) >= K),
        st.tuples(KEYS, KEYS).map(lambda ends: K.between(*ends)),
        st.lists(st.none() | KEYS, max_size=3).map(K.in_),
        st.lists(KEYS, max_size=3).map(K.not_in),
        st.lists(st.tuples(KEYS, st.integers(0, 60)), min_size=1, max_size=3).map(
            lambda rows: tuple_(K, Order.id).in_(rows)
        ),
        st.just(K.is_(None)),
        st.just(K == None),  # noqa: E711  # SQLAlchemy makes IS NULL of it
        st.integers(0, 40).map(lambda cents: Order.cents > cents),
        st.just(Order.paid),
        st.just(Order.note.like("n%")),
        KEYS.map(lambda at: K + 1 == at),
        st.integers(1, 3).map(lambda quantity: Order.lines.any(Line.quantity >= quantity)),
        st.integers(1, 3).map(lambda quantity: ~Order.lines.any(Line.quantity == quantity)),
    )


PREDICATES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: and_(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: or_(*parts)),
        inner.map(not_),
    ),
    max_leaves=6,
)


@settings(max_examples=150, **DEFAULTS)
@given(predicate=PREDICATES)
def test_R1_a_route_is_never_too_narrow(market: tuple[ShardMap, Engine], predicate: Any) -> None:
    layout, whole = market
    statement = select(Order).where(predicate)
    plan, key = layout.plans.find(statement, lambda key: plan_select(statement, key, layout))
    route = {layout.shards[at] for at in plan.route(Values(key, None), layout)}
    with whole.connect() as connection:
        needed = set(connection.scalars(select(K).where(predicate)))
    event(f"{len(route)} shards")
    assert {layout.shard_of(Order, household) for household in needed} <= route


ORDERS = st.lists(
    st.sampled_from(
        [
            Order.cents,
            Order.cents.desc(),
            Order.cents.desc().nulls_first(),
            Order.cents.nulls_last(),
            Order.note,
            Order.note.desc(),
            Order.price.desc(),
            Order.weight,
            Order.placed_at,
            Order.placed_at.desc().nulls_first(),
            Order.paid.desc(),
            K,
            func.coalesce(Order.cents, 7) % 5,
            Order.id,
            Order.id.desc(),
        ]
    ),
    max_size=3,
)
WINDOWS = st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(0, 30))
SELECTS = st.sampled_from(
    [
        select(Order),
        select(Order.id, Order.note, Order.price),
        select(Order.__table__),
        select(Order.__table__.c.id, Order.__table__.c.placed_at),
        select(Order).options(selectinload(Order.lines)),
        select(Order).options(joinedload(Order.lines)),
        select(Order, Line).join(Order.lines),
        select(Order.id, Line.quantity).outerjoin(Order.lines),
        select(K).distinct(),
        select(K, func.count(), func.sum(Order.cents), func.avg(Order.cents)).group_by(K),
        select(func.count(), func.count(Order.cents), func.sum(Order.cents), func.avg(Order.cents)),
        select(func.min(Order.cents), func.max(Order.note), func.min(Order.placed_at), func.max(Order.weight)),
        select(Order.paid, func.count()).group_by(Order.paid),
        select(func.sum(Order.weight)),
    ]
)


@settings(max_examples=250, **DEFAULTS)
@given(base=SELECTS, predicate=st.none() | PREDICATES, order=ORDERS, window=WINDOWS)
def test_master_oracle(
    market: tuple[ShardMap, Engine], base: Any, predicate: Any, order: list[Any], window: tuple[int | None, int | None]
) -> None:
    statement = base
    if predicate is not None:
        statement = statement.where(predicate)
    aggregated = "count(" in str(base) or "min(" in str(base) or "sum(" in str(base)
    if not aggregated and not base._distinct:
        statement = statement.order_by(*order)
    limit, offset = window
    if limit is not None:
        statement = statement.limit(limit)
    if offset is not None:
        statement = statement.offset(offset)
    verdict = MasterOracle(*market).check(statement)
    event("refused" if verdict.refused else "right")
    if not verdict.refused:
        event("with rows" if verdict.rows else "without rows")


@settings(max_examples=40, **DEFAULTS)
@given(
    values=st.lists(
        st.tuples(st.integers(0, 9), st.none() | st.integers(-(2**40), 2**40), st.none() | st.text(max_size=3)),
        max_size=25,
    )
)
def test_master_oracle_on_random_rows(
    market: tuple[ShardMap, Engine], values: list[tuple[int, int | None, str | None]]
) -> None:
    layout, whole = market
    rows = [
        {"id": at, "household_id": household, "cents": cents, "note": note, "paid": False}
        for at, (household, cents, note) in enumerate(values)
        if note is None or ("\x00" not in note and note.isprintable())
    ]
    fill(layout, whole, rows, [])
    try:
        oracle = MasterOracle(layout, whole)
        for statement in (
            select(Order).order_by(Order.note, Order.cents.desc()).limit(7),
            select(Order.id).order_by(Order.cents.nulls_last(), Order.note.desc()).offset(3),
            select(
                func.count(Order.note),
                func.sum(Order.cents),
                func.avg(Order.cents),
                func.max(Order.note),
                func.min(Order.note),
            ),
            select(K, func.max(Order.note), func.avg(Order.cents)).group_by(K).order_by(func.max(Order.note), K),
        ):
            assert oracle.check(statement).refused is None
    finally:
        fill(layout, whole, *baskets())
