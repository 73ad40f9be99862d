"""A select by key and a scatter, beside a plain Session on the right engine and beside horizontal_shard.

SQLite files of 2,000 rows, a new session for each call as in a service. With `BACKSTAY_TEST_POSTGRES_URL` the cases on
PostgreSQL run against that server's own database as well (four schemas, slowed by `pg_sleep` where the name says so).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, create_engine, insert, select, text
from sqlalchemy.ext.horizontal_shard import ShardedSession as Horizontal, set_shard_id
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from backstay.sharding import Rule, ShardedSession, ShardMap

from .harness import Case

KEY = 77


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "bench_orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    household_id: Mapped[int] = mapped_column(index=True)
    cents: Mapped[int]
    note: Mapped[str | None]


TABLE: Any = Order.__table__


def cases() -> Iterator[Case]:
    folder = tempfile.mkdtemp(prefix="backstay-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yield from _cases("SQLite", [create_engine(f"sqlite:///{folder}/{at}.db") for at in range(4)], "cpu", 1.05, 4.8)
    url = os.environ.get("BACKSTAY_TEST_POSTGRES_URL")
    if url is not None:
        yield from _cases("PostgreSQL", [_schema(url, at) for at in range(4)], "wall", 1.03, 4.6)


def _cases(name: str, engines: list[Engine], clock: Any, by_key: float, scatter: float) -> Iterator[Case]:
    layout = ShardMap.slots(
        {f"s{at}": engine for at, engine in enumerate(engines)}, rules=[Rule(Order, key="household_id")]
    )
    _fill(layout)
    home = layout.shard_of(Order, KEY)
    engine = layout.engine(home)
    ours, floor = _by_key(lambda: ShardedSession(layout)), _by_key(lambda: Session(engine))
    yield Case(name=f"{name}: control, a Session beside itself", floor=floor, ours=floor, target=1.01, clock=clock)
    yield Case(
        name=f"{name}: select by key",
        floor=floor,
        ours=ours,
        peer=_horizontal_by_key(layout, home),
        target=by_key,
        clock=clock,
    )
    yield Case(
        name=f"{name}: update by key",
        floor=_update(lambda: Session(engine)),
        ours=_update(lambda: ShardedSession(layout)),
        clock=clock,
    )
    for words, statement in (
        ("unordered", lambda: select(Order).where(Order.cents < 5)),
        ("ordered, limit 5", lambda: select(Order).where(Order.cents < 5).order_by(Order.id.desc()).limit(5)),
    ):
        yield Case(
            name=f"{name}: scatter of 4, {words}",
            floor=_run(lambda: Session(engine), statement),
            ours=_run(lambda: ShardedSession(layout, at_once=False), statement),
            peer=_run(lambda: _horizontal(layout), statement),
            target=scatter,
            clock=clock,
        )
    if engine.dialect.name == "postgresql":
        slow = text("(pg_sleep(0.005) IS NOT NULL)")
        yield Case(
            name=f"{name}: scatter of 4, each 5 ms",
            floor=_run(lambda: Session(engine), lambda: _one_row(slow)),
            ours=_run(lambda: ShardedSession(layout), lambda: _one_row(slow)),
            peer=_run(lambda: _horizontal(layout), lambda: _one_row(slow)),
            target=1.25,
            clock="wall",
        )


def _one_row(slow: Any) -> Any:
    return select(Order).where(Order.id < 4, slow).order_by(Order.id)


def _by_key(make: Callable[[], Session]) -> Callable[[], Any]:
    def run() -> Any:
        with make() as session:
            return session.scalars(select(Order).where(Order.household_id == KEY).order_by(Order.id).limit(5)).all()

    return run


def _run(make: Callable[[], Any], statement: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with make() as session:
            return session.scalars(statement()).all()

    return run


def _update(make: Callable[[], Session]) -> Callable[[], Any]:
    from sqlalchemy import update

    def run() -> None:
        with make() as session:
            session.execute(
                update(Order).where(Order.household_id == KEY).values(cents=3),
                execution_options={"synchronize_session": False},
            )
            session.rollback()

    return run


def _horizontal(layout: ShardMap) -> Any:
    names = list(layout.shards)
    make: Any = Horizontal
    return make(
        shard_chooser=lambda mapper, instance, clause=None: names[0],
        identity_chooser=lambda mapper, key, **_: names,
        execute_chooser=lambda context: names,
        shards=dict(layout.engines),
    )


def _horizontal_by_key(layout: ShardMap, home: str) -> Callable[[], Any]:
    def run() -> Any:
        with _horizontal(layout) as session:
            statement = select(Order).where(Order.household_id == KEY).order_by(Order.id).limit(5)
            return session.scalars(statement.options(set_shard_id(home))).all()

    return run


def _schema(url: str, at: int) -> Engine:
    engine = create_engine(url, connect_args={"options": f"-csearch_path=backstay_bench_{at}"})
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS backstay_bench_{at} CASCADE"))
        connection.execute(text(f"CREATE SCHEMA backstay_bench_{at}"))
    return engine


def _fill(layout: ShardMap) -> None:
    for engine in layout.engines.values():
        Base.metadata.create_all(engine)
    rows = [{"id": at, "household_id": at % 400, "cents": at % 997, "note": None} for at in range(2000)]
    for name, engine in layout.engines.items():
        with engine.begin() as connection:
            here = [row for row in rows if layout.shard_of(Order, row["household_id"]) == name]
            # every shard has a row for the slow case
            here += [{"id": -at - 1, "household_id": 0, "cents": 9999, "note": None} for at in range(1)]
            connection.execute(insert(TABLE), here)
