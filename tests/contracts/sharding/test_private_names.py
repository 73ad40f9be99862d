"""The private names of SQLAlchemy that routing depends on, with the behaviour that is relied on.

When a release breaks one of these, it fails here and not in a service.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.context import QueryContext, _ORMSelectCompileState
from sqlalchemy.orm.session import SessionTransaction, SessionTransactionState

from backstay.sharding import internals
from unit.sharding.market import Base, Order


def test_cache_key_has_a_key_and_the_parameters_in_order() -> None:
    first, second = (select(Order).where(Order.household_id == at, Order.cents > at + 1) for at in (1, 5))
    a, b = internals.cache_key(first), internals.cache_key(second)
    assert a[0] == b[0] and [bind.effective_value for bind in b[1]] == [5, 6]
    assert internals.cache_key(first) is a  # memoised: asking first costs nothing


def test_params_are_found_in_the_third_part_or_in_the_parameter() -> None:
    from sqlalchemy import bindparam

    key = internals.cache_key(select(Order).where(Order.household_id == bindparam("k")).params(k=7))
    third = key[2] if len(key) > 2 else None
    assert (third or {}).get("k") == 7 or key[1][0].value == 7


def test_expanding_shows_joined_loading_and_keeps_the_parameters() -> None:
    statement = select(Order).where(Order.household_id == 7).options(joinedload(Order.lines)).limit(3)
    core, collection = internals.expand(statement, eager=True)
    assert collection and len(core.get_final_froms()) == 1
    assert statement._limit_clause is not None  # the original is not touched
    assert internals.expand(statement, eager=False)[1] is False
    bind = core._where_criteria[0].right
    key = internals.cache_key(statement)
    assert any(one is bind or one in bind._cloned_set or one.key == bind.key for one in key[1])


def test_load_options_carry_a_token() -> None:
    options: Any = internals.load_options_with("s1")
    assert options._identity_token == "s1" and options._lazy_loaded_from is None
    assert QueryContext.default_load_options._identity_token is None


def test_entities_without_a_database() -> None:
    labels, extra, single = internals.entities_of(select(Order))
    assert labels == ["Order"] and single and len(extra) == 1
    assert internals.entities_of(select(Order.id, Order.note))[0] == ["id", "note"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Session, "_execute_internal"),
        (Session, "_connection_for_bind"),
        (Session, "_autobegin_t"),
        (Session, "_identity_lookup"),
        (Session, "_autoflush"),
        (SessionTransaction, "_prepare_impl"),
        (SessionTransactionState, "PREPARED"),
        (_ORMSelectCompileState, "orm_pre_session_exec"),
        (_ORMSelectCompileState, "orm_setup_cursor_result"),
        (_ORMSelectCompileState, "_create_orm_context"),
        (_ORMSelectCompileState, "_create_entities_collection"),
        (IteratorResult, "_raw_row_iterator"),
        (IteratorResult, "_soft_close"),
        (SimpleResultMetaData, "_reduce"),
    ],
)
def test_the_name_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name)


def test_a_transaction_keeps_its_connections_under_connection_and_engine() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        connection = session.connection()
        transaction: Any = session.get_transaction()
        entry = transaction._connections[connection]
        assert transaction._connections[engine] == entry
        assert entry[0] is connection and entry[1].is_active and entry[2] is True and entry[3] is True
    engine.dispose()


def test_results_have_what_the_merge_reads() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for statement in (select(Order), select(Order.id, Order.price), select(Order.__table__), select(func.count())):
            result: Any = session.execute(statement)
            assert list(result._metadata._keys) and hasattr(result._metadata, "_processors")
            assert hasattr(result, "_unique_filter_state") and hasattr(result, "_attributes")
            assert list(result._raw_row_iterator()) in ([], [(1,)])
    engine.dispose()
