"""Any interleaving of holders, paused ones coming back among them: no late write lands, and no other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import Engine, create_engine, delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from backstay.locks.guards import FencingToken, MemoryFences, StaleFence
from backstay.locks.guards.sqlalchemy import SqlFences, TableGuard, fenced, metadata
from unit.locks.guards.rows import Base, Order, orders
from unit.locks.guards.scripted import scripted


class Resource(Protocol):
    """One guarded value that any holder may write at any time."""

    def read(self, holder: int) -> None: ...
    def write(self, holder: int, fence: int, value: str) -> None: ...
    def value(self) -> str: ...


def token(fence: int) -> FencingToken:
    return FencingToken(name="order:1", fence=fence)


class Checked:
    """A value behind a store of fences, in one process."""

    def __init__(self) -> None:
        self.fences, self.held = MemoryFences(), ""

    def read(self, holder: int) -> None: ...

    def write(self, holder: int, fence: int, value: str) -> None:
        self.fences.admit(token(fence))
        self.held = value

    def value(self) -> str:
        return self.held


class Scripted:
    def __init__(self) -> None:
        self.keys, self.line = scripted()

    def read(self, holder: int) -> None: ...

    def write(self, holder: int, fence: int, value: str) -> None:
        self.keys.set(token(fence), "state", value)

    def value(self) -> str:
        return str(self.line.server.data.get(self.keys.key("order:1", "state"), ""))


class Sql:
    """What the resources in a database share; `engine` is emptied for each example."""

    engine: Engine

    def __init__(self) -> None:
        with self.engine.begin() as connection:
            for table in (orders, metadata.tables["backstay_fences"]):
                connection.execute(table.delete())
            connection.execute(orders.insert(), [{"id": n, "state": "", "cents": 0, "fence": 0} for n in (1, 2)])

    def read(self, holder: int) -> None: ...

    def value(self) -> str:
        with self.engine.connect() as connection:
            return str(connection.execute(select(orders.c.state).where(orders.c.id == 1)).scalar_one())


class Core(Sql):
    def write(self, holder: int, fence: int, value: str) -> None:
        guard = TableGuard(orders)
        with self.engine.begin() as connection:
            if fence % 2:
                guard.update(connection, token(fence), orders.c.id <= 2, values={"state": value})
            else:
                guard.upsert(connection, token(fence), key={"id": 1}, values={"state": value, "cents": 0})


class Stored(Sql):
    def write(self, holder: int, fence: int, value: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(orders).values(state=value))
            SqlFences(self.engine).admit_within(connection, token(fence))  # late in the transaction: no matter


class Flushed(Sql):
    """Rows that each holder loaded when it read, which may be long before it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[int, Order] = {}

    def read(self, holder: int) -> None:
        with Session(self.engine) as session:
            self.loaded[holder] = session.get_one(Order, 1)

    def write(self, holder: int, fence: int, value: str) -> None:
        if holder not in self.loaded:
            self.read(holder)
        order = self.loaded.pop(holder)
        with Session(self.engine, expire_on_commit=False) as session, fenced(session, token(fence)):
            session.add(order)
            order.state = value
            session.commit()


class Statements(Sql):
    def write(self, holder: int, fence: int, value: str) -> None:
        with Session(self.engine) as session, fenced(session, token(fence)):
            session.execute(delete(Order).where(Order.id == 99))
            session.execute(update(Order).values(state=value))
            session.commit()


@pytest.fixture(scope="module")
def engine() -> Any:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


HOLDERS = 4
steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "write", "read", "grant"]), st.integers(0, HOLDERS - 1)),
    min_size=6,
    max_size=30,
)


def check(make: Callable[[], Resource], script: list[tuple[str, int]]) -> None:
    resource = make()
    fences = {who: who + 1 for who in range(HOLDERS)}  # each has held the lock; only the last one holds it still
    granted, highest, expected = HOLDERS, 0, ""
    for number, (step, who) in enumerate(script):
        if step == "grant":  # the lock passes to this one, whatever the others still believe
            granted += 1
            fences[who] = granted
        elif step == "read":
            resource.read(who)
        else:
            fence, value = fences[who], f"{who}:{number}"
            refusal: StaleFence | None = None
            try:
                resource.write(who, fence, value)
            except StaleFence as stale:
                refusal = stale
            assert (refusal is not None) == (fence < highest), "a late write landed, or a timely one did not"
            if refusal is None:
                highest, expected = fence, value
            else:
                assert refusal.highest == highest
        assert resource.value() == expected


@given(steps)
def test_F6_no_late_write_lands_in_memory(script: list[tuple[str, int]]) -> None:
    check(Checked, script)


@given(steps)
def test_F6_no_late_write_lands_in_redis(script: list[tuple[str, int]]) -> None:
    check(Scripted, script)


@pytest.mark.parametrize("kind", [Core, Stored, Flushed, Statements])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps)
def test_F6_no_late_write_lands_in_sql(kind: type[Sql], engine: Engine, script: list[tuple[str, int]]) -> None:
    kind.engine = engine
    make: Any = kind
    check(make, script)
