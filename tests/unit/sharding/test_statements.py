"""Every accepted SELECT gives what one database would give; every other is refused by name (master oracle)."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from backstay.sharding import NotMergeable, ShardedSession, ShardMap, Unkeyed, Unroutable
from backstay.testing.sharding import MasterOracle
from unit.sharding.market import Line, Order
from unit.sharding.statements import ACCEPTED, REFUSED

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ACCEPTED)
def test_master_oracle_accepts(oracle: MasterOracle, name: str) -> None:
    verdict = oracle.check(ACCEPTED[name])
    assert verdict.refused is None, str(verdict.refused)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_name_of_the_clause(filled: tuple[ShardMap, Engine], name: str) -> None:
    statement, clause = REFUSED[name]
    with ShardedSession(filled[0]) as session, pytest.raises(Unroutable) as refused:
        session.execute(statement)
    assert clause in (refused.value.clause, "") or clause in str(refused.value)
    assert refused.value.cure


def test_oracle_sees_rows(oracle: MasterOracle) -> None:
    """The table above would pass over empty databases."""
    rows = {name: oracle.check(statement).rows for name, statement in ACCEPTED.items()}
    empty = {name for name, count in rows.items() if count == 0}
    assert empty == {"limit 0", "offset beyond the end", "contradiction", "order by UUID"}


def test_the_reference_page_lists_every_statement() -> None:
    page = (ROOT / "docs" / "reference" / "sharding-statements.md").read_text()
    missing = [name for name in [*ACCEPTED, *REFUSED] if f"| {name} |" not in page]
    assert not missing


def test_M9_all_pages_give_each_row_once(filled: tuple[ShardMap, Engine]) -> None:
    seen: list[int] = []
    with ShardedSession(filled[0]) as session:
        for page in range(100):
            statement = select(Order.id).order_by(Order.cents, Order.id).limit(7).offset(7 * page)
            ids = list(session.scalars(statement))
            if not ids:
                break
            seen += ids
    assert sorted(seen) == list(range(60))


def test_M9_limit_and_offset_as_parameters_of_one_plan(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        before = len(filled[0].plans)
        for size in (1, 2, 30):
            assert len(session.scalars(select(Order.cents + 1).order_by(Order.id).limit(size)).all()) == size
    assert len(filled[0].plans) == before + 1


def test_M11_hidden_columns_never_reach_the_caller(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        row = session.execute(select(Order.id, Order.cents).order_by(Order.note, Order.id).limit(1)).one()
        assert row._fields == ("id", "cents") and len(row) == 2 and row.id == row._mapping["id"]
        core = session.execute(select(Order.__table__.c.id).order_by(Order.__table__.c.note)).mappings().first()
        assert core is not None and list(core) == ["id"]


def test_M13_rows_keep_their_identity_and_their_shard(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        orders = session.scalars(select(Order).order_by(Order.id)).all()
        again = session.scalars(select(Order).where(Order.household_id == orders[5].household_id)).all()
        assert any(one is orders[5] for one in again)
        for one in orders:
            assert {line.household_id for line in one.lines} <= {one.household_id}
            assert len(one.lines) == one.id % 4
            session.expire(one)
            assert one.household_id == one.id * 5 % 24
            session.refresh(one)


def test_E1_streaming_merge_is_ordered_and_closes(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0]) as session:
        result = session.execute(select(Order.id).order_by(Order.id).execution_options(yield_per=3))
        assert [row.id for row in result.fetchmany(4)] == [0, 1, 2, 3]
        result.close()
        assert (
            session.scalars(select(Order).order_by(Order.id.desc()).execution_options(yield_per=2)).first() is not None
        )


@pytest.mark.parametrize("policy", ["refuse", 3])
def test_R17_unkeyed_reads_can_be_refused(filled: tuple[ShardMap, Engine], policy: object) -> None:
    with ShardedSession(filled[0], unkeyed=policy) as session:  # type: ignore[arg-type]  # two kinds of policy
        with pytest.raises(Unkeyed, match="shards"):
            session.scalars(select(Order))
        assert session.scalars(select(Order).where(Order.household_id == 3)).all()
        allowed = session.scalars(select(Order).execution_options(unkeyed="allow"))
        assert len(allowed.all()) == 60


def test_R17_warn(filled: tuple[ShardMap, Engine]) -> None:
    with ShardedSession(filled[0], unkeyed="warn") as session, pytest.warns(UserWarning, match="without sharding key"):
        session.scalars(select(Order)).all()


def test_a_refusal_is_raised_fresh_each_time(filled: tuple[ShardMap, Engine]) -> None:
    statement = select(Order.paid, func.count()).group_by(Order.paid)
    with ShardedSession(filled[0]) as session:
        errors = []
        for _ in range(2):
            with pytest.raises(NotMergeable) as refused:
                session.execute(statement)
            errors.append(refused.value)
    assert errors[0] is not errors[1] and str(errors[0]) == str(errors[1])


def test_a_named_shard_is_used_as_it_is(filled: tuple[ShardMap, Engine]) -> None:
    layout = filled[0]
    with ShardedSession(layout) as session:
        counts = [
            session.scalar(select(func.count(Line.id.distinct())), execution_options={"shard": name}) or 0
            for name in layout.shards
        ]
        whole = session.scalar(select(func.count(Line.id)))
    assert sum(counts) == whole and len([count for count in counts if count]) > 1
