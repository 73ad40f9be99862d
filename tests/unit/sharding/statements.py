"""SELECTs over several shards: which are right and which are refused. The reference page lists the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Integer,
    and_,
    case,
    cast,
    desc,
    distinct,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import aliased, joinedload, selectinload, subqueryload, with_loader_criteria

from unit.sharding.market import Line, Order, Product, Stray, Visit

T: Any = Order.__table__
L: Any = Line.__table__
A, B = aliased(Order), aliased(Order)

ACCEPTED: dict[str, Any] = {
    "all rows": select(Order),
    "columns": select(Order.id, Order.note),
    "Core table": select(T),
    "Core columns": select(T.c.id, T.c.price, T.c.placed_at),
    "order by": select(Order).order_by(Order.cents),
    "order by descending": select(Order).order_by(Order.cents.desc(), Order.id.desc()),
    "order by, nulls first": select(Order).order_by(Order.cents.desc().nulls_first(), Order.id),
    "order by, nulls last": select(Order).order_by(Order.cents.nulls_last(), Order.id),
    "order by text": select(Order).order_by(Order.note, Order.id.desc()),
    "order by date": select(Order.id).order_by(Order.placed_at.desc(), Order.id),
    "order by NUMERIC": select(Order.id, Order.price).order_by(Order.price.desc(), Order.id),
    "order by float": select(Order.id).order_by(Order.weight.desc(), Order.id),
    "order by boolean": select(Order.id).order_by(Order.paid, Order.id),
    "order by what is not selected": select(Order.id).order_by(Order.cents, Order.id),
    "order by expression with parameter": select(Order.id).order_by((Order.cents + 3) % 5, Order.id),
    "order by label": select((Order.cents * 2).label("double"), Order.id).order_by(desc("double"), Order.id),
    "order by function": select(Order.id).order_by(func.coalesce(Order.cents, -1), Order.id),
    "order by case": select(Order.id).order_by(case((Order.cents > 20, 1), else_=0), Order.id),
    "order by UUID": select(Visit).order_by(Visit.token),
    "limit": select(Order).order_by(Order.cents, Order.id).limit(5),
    "limit without order": select(Order).limit(7),
    "limit 0": select(Order).order_by(Order.id).limit(0),
    "limit and offset": select(Order).order_by(Order.cents, Order.id).limit(5).offset(10),
    "offset alone": select(Order).order_by(Order.id).offset(50),
    "offset beyond the end": select(Order).order_by(Order.id).limit(3).offset(500),
    "limit with ties": select(Order).order_by(Order.cents).limit(11),
    "Core order by and limit": select(T).order_by(T.c.price.desc(), T.c.id).limit(6),
    "count": select(func.count()).select_from(Order),
    "count of a column": select(func.count(Order.cents)),
    "count of distinct keys": select(func.count(distinct(Order.household_id))),
    "several aggregates": select(
        func.count(Order.id), func.sum(Order.cents), func.min(Order.cents), func.max(Order.cents), func.avg(Order.cents)
    ),
    "min and max of date and text": select(func.min(Order.placed_at), func.max(Order.note), func.max(T.c.placed_at)),
    "Core aggregates": select(func.max(T.c.placed_at), func.count(T.c.id), func.sum(T.c.cents).label("total")),
    "aggregates of no rows": select(
        func.count(), func.sum(Order.cents), func.avg(Order.cents), func.min(Order.note)
    ).where(Order.id < 0),
    "aggregates of a contradiction": select(func.count(), func.sum(Order.cents)).where(Order.household_id.in_([])),
    "aggregate over a join": select(func.sum(Line.quantity)).join(Line.order).where(Order.cents > 3),
    "group by the key": select(Order.household_id, func.count().label("n"), func.avg(Order.weight))
    .group_by(Order.household_id)
    .order_by(desc("n"), Order.household_id)
    .limit(4),
    "group by the key, having": select(Order.household_id, func.sum(Order.cents))
    .group_by(Order.household_id, Order.paid)
    .having(func.count() > 1)
    .order_by(Order.household_id, Order.paid),
    "group by the key, any aggregate": select(Order.household_id, func.group_concat(Order.id)).group_by(
        Order.household_id
    ),
    "distinct with the key": select(Order.household_id).distinct().order_by(Order.household_id.desc()).limit(5),
    "distinct entities": select(Order).join(Order.lines).distinct().order_by(Order.id),
    "window by the key": select(
        Order.id, func.row_number().over(partition_by=Order.household_id, order_by=Order.id)
    ).order_by(Order.id),
    "join by declared foreign key": select(Order, Line).join(Order.lines).order_by(Order.id, Line.id).limit(7),
    "outer join": select(Order, Line).outerjoin(Order.lines).order_by(Order.cents, Order.id, Line.id.desc()).limit(9),
    "join by equal keys": select(A.id, B.id)
    .join(B, and_(A.household_id == B.household_id, A.id < B.id))
    .order_by(A.id, B.id),
    "join in where": select(T.c.id, L.c.quantity).where(T.c.household_id == L.c.household_id, T.c.id == L.c.order_id),
    "join with a broadcast table": select(Line.id, Product.name).join(Line.product).order_by(Line.id),
    "outer join with a broadcast table": select(Line.id, Product.name)
    .outerjoin(Product, and_(Line.product_id == Product.id, Line.household_id == 3))
    .order_by(Line.id),
    "exists": select(Order).where(Order.lines.any(Line.quantity > 1)).order_by(Order.id),
    "not exists": select(Order).where(~Order.lines.any()).order_by(Order.id),
    "correlated count": select(
        Order.id, select(func.count()).where(Line.order_id == Order.id).correlate(Order).scalar_subquery().label("n")
    ).order_by(Order.id),
    "has": select(Line).where(Line.order.has(Order.cents > 10)).order_by(Line.id),
    "joinedload of a collection": select(Order).options(joinedload(Order.lines)).order_by(Order.cents, Order.id),
    "joinedload of a parent": select(Line).options(joinedload(Line.order)).order_by(Line.id).limit(5),
    "selectinload": select(Order).options(selectinload(Order.lines)).order_by(Order.cents, Order.id).limit(4),
    "subqueryload": select(Order).options(subqueryload(Order.lines)).order_by(Order.cents, Order.id).limit(4),
    "loader criteria": select(Order).options(with_loader_criteria(Order, Order.paid.is_(True))).order_by(Order.id),
    "aliased": select(A).order_by(A.id).limit(3),
    "two aliases": select(A, B).join(B, A.household_id == B.household_id).order_by(A.id, B.id).limit(3),
    "equal labels": select(Order.id.label("x"), Order.cents.label("x")).order_by(Order.id),
    "several keys": select(Order).where(Order.household_id.in_([1, 2, 3])).order_by(Order.id),
    "key or key": select(Order).where(or_(Order.household_id == 1, Order.household_id == 12)).order_by(Order.id),
    "key between": select(Order).where(Order.household_id.between(2, 4)).order_by(Order.id),
    "row values": select(Order)
    .where(tuple_(Order.household_id, Order.id).in_([(0, 0), (5, 1), (10, 2)]))
    .order_by(Order.id),
    "not the key": select(Order).where(not_(Order.household_id == 3)).order_by(Order.id),
    "one key": select(Order).where(Order.household_id == 7).order_by(Order.id),
    "one key, any clause": select(Order.paid, func.group_concat(Order.id))
    .where(Order.household_id == 7)
    .group_by(Order.paid),
    "one key, union": select(Order.id)
    .where(Order.household_id == 7)
    .union_all(select(Line.id).where(Line.household_id == 7)),
    "one key, subquery in FROM": select(func.count()).select_from(
        select(Order).where(Order.household_id == 7).subquery()
    ),
    "one key, CTE": select(select(Order.cents).where(Order.household_id == 7).cte("c").c.cents),
    "one key on both sides": select(T.c.id, L.c.id).where(
        T.c.household_id == 7, L.c.household_id == 7, L.c.quantity <= T.c.id
    ),
    "contradiction": select(Order).where(Order.household_id == 1, Order.household_id == 2),
    "broadcast table": select(Product).order_by(Product.id),
    "no table": select(literal(1)),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "group by without the key": (select(Order.paid, func.count()).group_by(Order.paid), "GROUP BY"),
    "having without group by": (select(func.count(Order.id)).having(func.count() > 3), "HAVING"),
    "distinct without the key": (select(Order.cents).distinct(), "DISTINCT"),
    "count of distinct values": (select(func.count(distinct(Order.cents))), "DISTINCT"),
    "sum of floats": (select(func.sum(Order.weight)), "SUM"),
    "avg of NUMERIC on SQLite": (select(func.avg(Order.price)), "AVG"),
    "expression around an aggregate": (select(func.sum(Order.cents) - func.count()), ""),
    "column beside an aggregate": (select(Order.note, func.count(Order.id)), ""),
    "unknown function": (select(func.group_concat(Order.note)), "function group_concat()"),
    "random order": (select(Order).order_by(func.random()), "function random()"),
    "order by text fragment": (select(Order).order_by(text("cents")), "text()"),
    "literal column": (select(literal_column("count(*)")).select_from(Order), "text()"),
    "select in a text": (select(Order).where(text("id IN (SELECT order_id FROM line)")), "text()"),
    "window over all": (select(Order.id, func.row_number().over(order_by=Order.id)), "window function"),
    "union over shards": (select(Order.id).union_all(select(Line.id)), "UNION ALL"),
    "subquery in FROM over shards": (
        select(func.count()).select_from(select(Order).limit(5).subquery()),
        "subquery in FROM",
    ),
    "CTE over shards": (select(select(Order.cents).cte("c").c.cents), "CTE"),
    "join of unbound tables": (select(T.c.id, L.c.id).where(T.c.cents == L.c.quantity), "JOIN"),
    "outer join without the key": (select(Order.id, A.id).outerjoin(A, Order.cents == A.cents), "JOIN"),
    "uncorrelated IN": (select(Order).where(Order.id.in_(select(Line.order_id))), "JOIN"),
    "exists without the key": (select(Order).where(exists().where(Line.quantity == Order.cents)), "JOIN"),
    "not exists over two rows": (
        select(A.id, B.id).where(
            ~exists().where(and_(L.c.household_id == A.household_id, L.c.household_id == B.household_id))
        ),
        "JOIN",
    ),
    "full join": (select(Order.id, Line.id).outerjoin(Line, Order.id == Line.order_id, full=True), "FULL OUTER JOIN"),
    "limit with joinedload of a collection": (
        select(Order).options(joinedload(Order.lines)).limit(5),
        "LIMIT with joinedload of a collection",
    ),
    "loader criteria with a subquery": (
        select(Order).options(with_loader_criteria(Order, Order.id.in_(select(Line.order_id)))),
        "with_loader_criteria",
    ),
    "for update": (select(Order).with_for_update(), "FOR UPDATE"),
    "limit by expression": (select(Order).limit(cast(literal("3"), Integer) + 1), "LIMIT"),
    "table without a rule": (select(Stray), "FROM"),
    "text statement": (text("SELECT 1"), "TextClause"),
    "two keys on two shards": (
        select(T.c.id, L.c.id).where(T.c.household_id == 1, L.c.household_id == 5, T.c.id == L.c.quantity),
        "JOIN",
    ),
}
