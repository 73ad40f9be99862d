"""Guarded rows and tables, asked on any database: subclasses give the fixture `engine`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    event,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import StaleDataError

from backstay.errors import Misuse
from backstay.locks import LockLost
from backstay.locks.guards import FencingToken, StaleFence
from backstay.locks.guards.sqlalchemy import FencedRow, SqlFences, TableGuard, Unfenced, fenced, metadata


class Base(DeclarativeBase):
    pass


class Order(FencedRow, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(40))
    cents: Mapped[int] = mapped_column(default=0)
    favourite_id: Mapped[int | None] = mapped_column(ForeignKey("order_lines.id", use_alter=True, name="fav"))
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan", foreign_keys="Line.order_id")
    favourite: Mapped[Line | None] = relationship(foreign_keys=favourite_id, post_update=True)


class Line(FencedRow, Base):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str] = mapped_column(String(40), default="")


class Vehicle(FencedRow, Base):
    __tablename__ = "vehicles"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(40))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Truck(Vehicle):
    __tablename__ = "trucks"

    id: Mapped[int] = mapped_column(ForeignKey("vehicles.id"), primary_key=True, autoincrement=False)
    load: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "truck"}


orders = Base.metadata.tables["orders"]
shelves = Table(
    "shelves",
    Base.metadata,
    Column("aisle", Integer, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("code", String(20), unique=True),
    Column("free", Integer, nullable=False),
    Column("seen", BigInteger, nullable=True),  # added to rows that were there before
)


def token(fence: int, name: str = "order:1") -> FencingToken:
    return FencingToken(name=name, fence=fence)


@contextmanager
def written(engine: Engine) -> Iterator[list[str]]:
    """The statements that write, as they are sent."""
    seen: list[str] = []

    def see(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            seen.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", see)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", see)


class SqlGuards:
    """What fenced rows, guarded tables and stored fences promise."""

    @pytest.fixture(autouse=True)
    def tables(self, engine: Engine) -> Iterator[None]:
        Base.metadata.create_all(engine)
        metadata.create_all(engine)
        with Session(engine) as session, fenced(session, token(10)):
            session.add_all([Order(id=number, state="new", cents=number) for number in (1, 2, 3)])
            session.commit()
        yield
        Base.metadata.drop_all(engine)
        metadata.drop_all(engine)

    @staticmethod
    def rows(engine: Engine) -> list[tuple[int, str, int]]:
        with engine.connect() as connection:
            found = connection.execute(select(orders.c.id, orders.c.state, orders.c.fence).order_by(orders.c.id))
            return [(number, state, fence) for number, state, fence in found]

    @staticmethod
    def pay(engine: Engine, fence: int, state: str, *numbers: int) -> None:
        with Session(engine) as session, fenced(session, token(fence)):
            for number in numbers:
                session.get_one(Order, number).state = state
            session.commit()

    # -- rows of the ORM

    def test_F6_a_late_update_is_refused_and_an_equal_fence_may_write_again(self, engine: Engine) -> None:
        self.pay(engine, 12, "paid", 1)
        self.pay(engine, 12, "packed", 1)
        with pytest.raises(StaleFence) as stale:
            self.pay(engine, 11, "late", 1)
        assert (stale.value.lock, stale.value.fence, stale.value.highest) == ("order:1", 11, 12)
        assert isinstance(stale.value, LockLost)
        assert "take the lock again" in str(stale.value)
        assert self.rows(engine) == [(1, "packed", 12), (2, "new", 10), (3, "new", 10)]

    def test_F6_the_comparison_is_part_of_the_statement_that_writes(self, engine: Engine) -> None:
        with written(engine) as statements:
            self.pay(engine, 12, "paid", 1)
            with Session(engine) as session, fenced(session, token(13)):
                session.delete(session.get_one(Order, 2))
                session.commit()
        assert len(statements) == 2
        assert statements[0].startswith("UPDATE orders SET state=")
        assert ", fence=" in statements[0]
        assert all("orders.fence <= " in statement for statement in statements)

    def test_F6_of_several_rows_one_later_one_stops_them_all(self, engine: Engine) -> None:
        self.pay(engine, 12, "paid", 2)
        before = self.rows(engine)
        with pytest.raises(StaleFence):
            self.pay(engine, 11, "late", 1, 2, 3)
        assert self.rows(engine) == before

    def test_F6_what_was_read_before_the_later_holder_wrote_is_refused(self, engine: Engine) -> None:
        with Session(engine, expire_on_commit=False) as late:
            order = late.get_one(Order, 1)
            late.commit()
            self.pay(engine, 12, "paid", 1)
            order.state = "late"
            with pytest.raises(StaleFence), fenced(late, token(11)):
                pass  # leaving flushes
        assert self.rows(engine)[0] == (1, "paid", 12)

    def test_F6_a_valid_holder_writes_over_what_it_read_before_an_earlier_one_wrote(self, engine: Engine) -> None:
        with Session(engine, expire_on_commit=False) as session:
            order = session.get_one(Order, 1)
            session.commit()
            self.pay(engine, 11, "by an earlier one", 1)
            order.state = "paid"
            with fenced(session, token(12)):
                session.commit()
        assert self.rows(engine)[0] == (1, "paid", 12)

    def test_F6_late_deletes_are_refused_orphans_as_well(self, engine: Engine) -> None:
        with Session(engine) as session, fenced(session, token(12)):
            session.add_all([Line(id=1, order_id=1), Line(id=2, order_id=1)])
            session.commit()
        with Session(engine) as session, fenced(session, token(13)):
            session.get_one(Line, 2).sku = "honey"
            session.commit()
        with Session(engine) as session:
            with pytest.raises(StaleFence), fenced(session, token(11)):
                session.delete(session.get_one(Line, 1))
            session.rollback()
            with pytest.raises(StaleFence), fenced(session, token(12)):
                order = session.get_one(Order, 1)
                order.lines.pop()
            session.rollback()
            with pytest.raises(StaleFence), fenced(session, token(12)):
                session.delete(session.get_one(Order, 1))
            session.rollback()
            assert len(session.get_one(Order, 1).lines) == 2
            with fenced(session, token(13)):
                order = session.get_one(Order, 1)
                order.lines.pop()
                session.commit()
            assert [line.id for line in session.get_one(Order, 1).lines] == [1]

    def test_F6_a_new_object_in_place_of_a_deleted_one_is_compared(self, engine: Engine) -> None:
        def replace(fence: int, state: str) -> None:
            with Session(engine) as session, fenced(session, token(fence)):
                session.delete(session.get_one(Order, 1))
                session.add(Order(id=1, state=state))
                session.commit()

        self.pay(engine, 12, "paid", 1)
        with pytest.raises(StaleFence):
            replace(11, "late")
        assert self.rows(engine)[0] == (1, "paid", 12)
        replace(12, "anew")
        assert self.rows(engine)[0] == (1, "anew", 12)

    def test_F6_a_hierarchy_is_compared_in_its_root(self, engine: Engine) -> None:
        def load(fence: int, load: int) -> None:
            with Session(engine) as session, fenced(session, token(fence)):
                session.get_one(Truck, 1).load = load
                session.commit()

        with Session(engine) as session, fenced(session, token(5)):
            session.add(Truck(id=1, load=0))
            session.commit()
        load(7, 70)
        with pytest.raises(StaleFence):
            load(6, 60)
        with Session(engine) as session:
            assert (session.get_one(Truck, 1).load, session.get_one(Truck, 1).fence) == (70, 7)
            with pytest.raises(Misuse, match="base class"), fenced(session, token(8)):
                session.execute(update(Truck).values(load=1))

    def test_written_without_a_lease_is_refused_and_sends_nothing(self, engine: Engine) -> None:
        before = self.rows(engine)
        with Session(engine) as session, written(engine) as statements:
            writes: tuple[Callable[[], object], ...] = (
                lambda: session.add(Order(id=9, state="new")),
                lambda: setattr(session.get_one(Order, 1), "state", "x"),
                lambda: session.delete(session.get_one(Order, 1)),
            )
            for write in writes:
                write()
                with pytest.raises(Unfenced, match="with fenced"):
                    session.commit()
                session.rollback()
            for statement in (
                update(Order).values(state="x"),
                delete(Order),
                insert(Order).values(id=9, state="x"),
            ):
                with pytest.raises(Unfenced, match="with fenced"):
                    session.execute(statement)
            assert statements == []
            order = session.get_one(Order, 1)
            order.state = str(order.state)  # touched, not changed: nothing is written
            session.commit()
        assert self.rows(engine) == before

    def test_ways_past_the_events_fail_closed(self, engine: Engine) -> None:
        before = self.rows(engine)
        with Session(engine) as session, written(engine) as statements, fenced(session, token(12)):
            with pytest.raises(KeyError, match="fence"):
                session.bulk_update_mappings(Order, [{"id": 1, "state": "x"}])
            session.rollback()
            with pytest.raises(Unfenced):
                session.bulk_update_mappings(Order, [{"id": 1, "state": "x", "fence": 99}])
            session.rollback()
            order = session.get_one(Order, 1)
            order.state = "x"
            with pytest.raises(Unfenced):
                session.bulk_save_objects([order])
            session.rollback()
        assert [statement for statement in statements if not statement.startswith("SELECT")] == []
        assert self.rows(engine) == before

    def test_a_post_update_is_compared_like_the_flush_that_it_ends(self, engine: Engine) -> None:
        with Session(engine) as session, fenced(session, token(12)):
            order = session.get_one(Order, 1)
            order.favourite = Line(id=7, order_id=1, sku="honey")
            order.lines.append(order.favourite)
            order.state = "liked"
            session.commit()
            assert session.get_one(Order, 1).favourite_id == 7
        with Session(engine) as session:
            with pytest.raises(StaleFence), fenced(session, token(11)):
                session.get_one(Order, 1).favourite = None
            session.rollback()
            assert session.get_one(Order, 1).favourite_id == 7
        with Session(engine) as session, fenced(session, token(13)):
            order = session.get_one(Order, 1)
            order.favourite = None
            session.flush()
            order.favourite = order.lines[0]
            session.flush()
            session.delete(order)  # emptied by an update before it is deleted
            session.commit()
            assert session.get(Line, 7) is None

    def test_a_row_that_is_gone_is_not_called_stale(self, engine: Engine) -> None:
        with Session(engine, expire_on_commit=False) as session:
            order = session.get_one(Order, 1)
            session.commit()
            with engine.begin() as connection:
                connection.execute(orders.delete().where(orders.c.id == 1))
            order.state = "x"
            with pytest.raises(StaleDataError), fenced(session, token(12)):
                session.flush()

    def test_blocks_of_two_locks_may_be_nested(self, engine: Engine) -> None:
        with Session(engine) as session, fenced(session, token(12, "a")):
            session.get_one(Order, 1).state = "under a"
            with fenced(session, token(3000, "b")):
                session.get_one(Order, 2).state = "under b"
            session.get_one(Order, 3).state = "under a"
            session.commit()
        assert self.rows(engine) == [(1, "under a", 12), (2, "under b", 3000), (3, "under a", 12)]

    def test_readers_compare_the_column_as_any_other(self, engine: Engine) -> None:
        self.pay(engine, 12, "paid", 1)
        with Session(engine) as session:
            assert session.scalars(select(Order.id).where(Order.fence == 12)).all() == [1]
            assert session.scalars(select(Order.id).where(Order.fence == bindparam("f", 10))).all() == [2, 3]
            assert session.scalars(select(Order.id).where(Order.fence < 12).order_by(Order.id)).all() == [2, 3]

    # -- statements of the ORM

    def test_F6_an_update_by_condition_passes_over_no_later_row(self, engine: Engine) -> None:
        self.pay(engine, 12, "paid", 2)
        before = self.rows(engine)
        with Session(engine) as session, pytest.raises(StaleFence) as stale, fenced(session, token(11)):
            session.execute(update(Order).where(Order.cents > 0).values(state="late"))
        assert stale.value.highest == 12
        assert self.rows(engine) == before
        with Session(engine) as session, fenced(session, token(11)):
            session.execute(update(Order).where(Order.cents == bindparam("c")).values(state="in time"), {"c": 3})
            session.commit()
        assert self.rows(engine)[2] == (3, "in time", 11)

    def test_F6_a_delete_by_condition_passes_over_no_later_row(self, engine: Engine) -> None:
        self.pay(engine, 12, "paid", 2)
        with Session(engine) as session, pytest.raises(StaleFence), fenced(session, token(11)):
            session.execute(delete(Order))
        assert len(self.rows(engine)) == 3
        with Session(engine) as session, fenced(session, token(12)):
            query: Any = session.query(Order)
            assert query.filter(Order.id != 3).delete() == 2
            session.commit()
        assert self.rows(engine) == [(3, "new", 10)]

    def test_F6_bulk_writes_by_key(self, engine: Engine) -> None:
        with Session(engine) as session, fenced(session, token(12)):
            session.execute(update(Order), [{"id": 1, "state": "paid"}, {"id": 2, "state": "paid"}])
            session.execute(insert(Order), [{"id": 4, "state": "four"}, {"id": 5, "state": "five"}])
            session.execute(insert(Order), {"id": 6, "state": "six"})
            session.execute(insert(Order).values(id=7, state="seven"))
            session.commit()
        after = self.rows(engine)
        assert after == [(1, "paid", 12), (2, "paid", 12), (3, "new", 10)] + [
            (number, state, 12) for number, state in ((4, "four"), (5, "five"), (6, "six"), (7, "seven"))
        ]
        with Session(engine) as session, pytest.raises(StaleFence) as stale, fenced(session, token(11)):
            session.execute(update(Order), [{"id": 3, "state": "late"}, {"id": 1, "state": "late"}])
        assert stale.value.highest == 12
        assert self.rows(engine) == after

    # -- tables of Core

    def test_F6_a_table_refuses_what_is_late(self, engine: Engine) -> None:
        guard = TableGuard(Order)
        with engine.begin() as connection, written(engine) as statements:
            assert guard.update(connection, token(12), orders.c.id == 1, values={"state": "paid"}) == 1
        assert len(statements) == 1
        assert "orders.fence <= " in statements[0]
        with pytest.raises(StaleFence) as stale, engine.begin() as connection:
            guard.update(connection, token(11), orders.c.id == 1, values={"state": "late"})
        assert (stale.value.fence, stale.value.highest) == (11, 12)
        with pytest.raises(StaleFence), engine.begin() as connection:
            guard.delete(connection, token(11), orders.c.id == 1)
        assert self.rows(engine)[0] == (1, "paid", 12)
        with Session(engine) as session:
            assert guard.delete(session, token(12), Order.id == 1) == 1
            assert guard.update(session, token(12), orders.c.id == 99, values={"state": "x"}) == 0
            session.commit()
        assert [number for number, _, _ in self.rows(engine)] == [2, 3]

    def test_F6_one_later_row_stops_a_whole_statement_and_its_transaction(self, engine: Engine) -> None:
        guard = TableGuard(orders)
        self.pay(engine, 12, "paid", 2)
        before = self.rows(engine)
        with pytest.raises(StaleFence), engine.begin() as connection:
            guard.update(connection, token(11), orders.c.id == 1, values={"state": "late"})
            guard.update(connection, token(11), true(), values={"state": "late"})
        assert self.rows(engine) == before
        with Session(engine) as session:
            with pytest.raises(StaleFence):
                guard.delete(session, token(11), orders.c.cents > 0)
            session.commit()
        assert self.rows(engine) == before
        with engine.connect() as connection:  # caught, and gone on with
            with pytest.raises(StaleFence):
                guard.update(connection, token(11), orders.c.id.in_([1, 2]), values={"state": "late"})
            connection.commit()
        assert self.rows(engine) == before

    def test_a_claim_keeps_earlier_holders_from_changing_what_is_read_next(self, engine: Engine) -> None:
        guard = TableGuard(orders)
        for _ in range(2):  # the second changes nothing in the row, and matches it all the same
            with engine.begin() as connection:
                assert guard.claim(connection, token(12), orders.c.id == 1) == 1
        with pytest.raises(StaleFence), engine.begin() as connection:
            guard.update(connection, token(11), orders.c.id == 1, values={"state": "late"})
        assert self.rows(engine)[0] == (1, "new", 12)

    def test_F6_an_upsert_writes_once_and_then_compares(self, engine: Engine) -> None:
        guard = TableGuard(shelves, column="seen")
        key = {"aisle": 1, "place": 2}

        def free() -> Any:
            with engine.connect() as connection:
                return connection.execute(select(shelves.c.free, shelves.c.seen)).all()

        def put(fence: int, count: int) -> None:
            with engine.begin() as connection:
                guard.upsert(connection, token(fence), key=key, values={"free": count})

        with written(engine) as statements:
            put(7, 70)
            put(7, 71)
            put(9, 90)
        assert len(statements) == 3
        with pytest.raises(StaleFence) as stale:
            put(8, 80)
        assert stale.value.highest == 9
        assert free() == [(90, 9)]

    def test_rows_that_were_never_fenced_let_the_first_fence_in(self, engine: Engine) -> None:
        guard = TableGuard(shelves, column="seen")
        with engine.begin() as connection:
            connection.execute(shelves.insert(), [{"aisle": 1, "place": n, "free": n} for n in (1, 2)])
        one = (shelves.c.aisle == 1, shelves.c.place == 1)
        with engine.begin() as connection:
            assert guard.update(connection, token(5), *one, values={"free": 50}) == 1
            guard.upsert(connection, token(5), key={"aisle": 1, "place": 2}, values={"free": 50})
        with pytest.raises(StaleFence), engine.begin() as connection:
            guard.update(connection, token(4), shelves.c.aisle == 1, values={"free": 40})
        with engine.connect() as connection:
            assert connection.execute(select(shelves.c.free, shelves.c.seen)).all() == [(50, 5), (50, 5)]

    def test_an_upsert_that_meets_another_row_writes_nothing(self, engine: Engine) -> None:
        guard = TableGuard(shelves, column="seen")
        with engine.begin() as connection:
            guard.upsert(connection, token(5), key={"aisle": 1, "place": 1}, values={"free": 1, "code": "x"})
        with pytest.raises((Misuse, IntegrityError)), engine.begin() as connection:
            guard.upsert(connection, token(6), key={"aisle": 1, "place": 2}, values={"free": 2, "code": "x"})
        with engine.connect() as connection:
            assert connection.execute(select(shelves.c.place, shelves.c.free, shelves.c.seen)).all() == [(1, 1, 5)]

    @pytest.mark.parametrize(
        "call",
        [
            lambda guard, handle: guard.update(handle, token(5), values={"state": "x"}),
            lambda guard, handle: guard.delete(handle, token(5)),
            lambda guard, handle: guard.update(handle, token(5), true(), values={"stat": "x"}),
            lambda guard, handle: guard.update(handle, token(5), true(), values={"fence": 99}),
            lambda guard, handle: guard.upsert(handle, token(5), key={}, values={"state": "x"}),
            lambda guard, handle: guard.upsert(handle, token(5), key={"id": 1}, values={"id": 2}),
            lambda guard, handle: guard.update(handle, object(), true(), values={"state": "x"}),
            lambda guard, handle: guard.update(handle.engine, token(5), true(), values={"state": "x"}),
        ],
    )
    def test_senseless_writes_are_refused_before_anything_is_sent(
        self, engine: Engine, call: Callable[[Any, Any], Any]
    ) -> None:
        with engine.begin() as connection, written(engine) as statements, pytest.raises(Misuse):
            call(TableGuard(orders), connection)
        assert statements == []

    def test_a_connection_that_commits_each_statement_is_refused(self, engine: Engine) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            with pytest.raises(Misuse, match="AUTOCOMMIT"):
                TableGuard(orders).delete(connection, token(99), true())
        assert len(self.rows(engine)) == 3

    # -- fences in a table

    def test_F6_stored_fences_rise_and_never_fall(self, engine: Engine) -> None:
        fences = SqlFences(engine)
        names = ["a", "A", "a ", "ä", "a\0", "x" * 512]
        for name in names:
            fences.admit(token(5, name))
        for name in names:
            fences.admit(token(5, name))
            fences.admit(token(7, name))
            with pytest.raises(StaleFence) as stale:
                fences.admit(token(6, name))
            assert (stale.value.lock, stale.value.highest) == (name, 7)

    def test_F6_a_fence_stored_with_the_work_guards_inserts_and_deletes(self, engine: Engine) -> None:
        fences = SqlFences(engine)
        fences.create()
        plain = shelves.insert()

        def move(fence: int, place: int) -> None:
            with engine.begin() as connection:
                fences.admit_within(connection, token(fence))
                connection.execute(shelves.delete())
                connection.execute(plain, {"aisle": 1, "place": place, "free": 1})

        move(5, 1)
        move(7, 2)
        with pytest.raises(StaleFence):
            move(6, 3)
        with Session(engine) as session:
            with pytest.raises(StaleFence):
                fences.admit_within(session, token(6))
            session.commit()
            assert session.execute(select(shelves.c.place)).scalars().all() == [2]

    def test_F6_a_fence_is_remembered_with_the_work_or_not_at_all(self, engine: Engine) -> None:
        fences = SqlFences(engine)
        fences.create()
        with pytest.raises(LookupError), engine.begin() as connection:
            fences.admit_within(connection, token(9))
            raise LookupError
        with engine.begin() as connection:
            fences.admit_within(connection, token(7))  # the work of fence 9 was never done
        with pytest.raises(StaleFence):
            fences.admit(token(6))
