"""A holder that is stopped with SIGSTOP loses its lock, wakes up and writes: the guard refuses, and nothing else does.

The stopped process looks whether its lease is valid, and is stopped after that look: no check on its side could
help. The control writes the same without a guard, to show that the late write does arrive.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from backstay.locks import Locks
from backstay.locks.guards import FencingToken, StaleFence
from backstay.locks.guards.redis import FencedKeys
from backstay.locks.guards.sqlalchemy import TableGuard, fenced
from unit.locks.guards.rows import Base, Order, orders

ROOT = Path(__file__).parents[3]

HOLDER = """
import sys
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from backstay.locks import LockLost, Locks
from backstay.locks.guards.redis import FencedKeys
from backstay.locks.guards.sqlalchemy import TableGuard, fenced
from unit.locks.guards.rows import Order, orders

lock_url, resource_url, how = sys.argv[1:]
sql = not resource_url.startswith("redis")
engine = create_engine(resource_url) if sql else None
if sql:
    with engine.connect() as connection:  # connected before the pause
        connection.execute(text("SELECT 1"))


def write(lease):
    if how == "flush":
        with Session(engine) as session, fenced(session, lease):
            session.get_one(Order, 1).state = "late"
            session.commit()
    elif how == "table":
        with engine.begin() as connection:
            TableGuard(Order).update(connection, lease, orders.c.id == 1, values={"state": "late"})
    elif how == "unguarded" and sql:
        with engine.begin() as connection:
            connection.execute(orders.update().where(orders.c.id == 1).values(state="late"))
    elif how == "keys":
        FencedKeys.connect(resource_url, namespace="paused").set(lease, "state", "late")
    else:
        import redis
        keys = FencedKeys.connect(resource_url, namespace="paused")
        redis.Redis.from_url(resource_url).set(keys.key("order:1", "state"), "late")


with Locks.connect(lock_url, namespace="paused") as locks:
    lease = locks.mutex("order:1", ttl=1.0).acquire()
    lease.check()
    print(lease.fence, flush=True)
    sys.stdin.readline()  # between the check and the write, here, it is stopped
    try:
        write(lease)
    except LockLost as lost:
        print(type(lost).__name__, lost.fence, getattr(lost, "highest", None), flush=True)
    else:
        print("landed", flush=True)
"""


class Holder:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        return out.readline().strip()

    def go_on(self) -> None:
        """Let it write, as soon as it runs again."""
        entry: IO[str] | None = self.process.stdin
        assert entry is not None
        entry.write("\n")
        entry.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def holder() -> Iterator[Callable[..., Holder]]:
    started: list[Holder] = []

    def start(*arguments: str) -> Holder:
        started.append(Holder(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


def overtaken(holder: Holder, redis_url: str, write: Callable[[Any], None]) -> tuple[str, int, int]:
    """Stop the holder, take its lock, write, let it go on; return what it says, its fence and ours."""
    early = int(holder.line())
    os.kill(holder.process.pid, signal.SIGSTOP)
    holder.go_on()
    with Locks.connect(redis_url, namespace="paused") as locks, locks.mutex("order:1", ttl=30.0, wait=20.0) as lease:
        assert lease.fence > early
        write(lease)
        os.kill(holder.process.pid, signal.SIGCONT)
        return holder.line(), early, lease.fence


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "mariadb_url")
    return url


@pytest.mark.parametrize("how", ["flush", "table", "unguarded"])
def test_F6_in_a_database(holder: Callable[..., Holder], redis_url: str, database: str, how: str) -> None:
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(orders.insert().values(id=1, state="new", cents=0, fence=0))

    def write(lease: Any) -> None:
        with Session(engine) as session, fenced(session, lease):
            session.get_one(Order, 1).state = "paid"
            session.commit()

    said, early, later = overtaken(holder(redis_url, database, how), redis_url, write)
    with engine.connect() as connection:
        state, fence = connection.execute(select(orders.c.state, orders.c.fence)).one()
    with engine.begin() as connection, pytest.raises(StaleFence):
        TableGuard(orders).claim(connection, FencingToken(name="order:1", fence=early), orders.c.id == 1)
    engine.dispose()
    assert fence == later
    if how == "unguarded":
        assert (said, state) == ("landed", "late"), "without the guard the late write arrives"
    else:
        assert (said, state) == (f"StaleFence {early} {later}", "paid")


@pytest.mark.parametrize("how", ["keys", "unguarded"])
def test_F6_in_redis(holder: Callable[..., Holder], redis_url: str, how: str) -> None:
    with FencedKeys.connect(redis_url, namespace="paused") as keys, redis.Redis.from_url(redis_url) as server:
        said, early, later = overtaken(
            holder(redis_url, redis_url, how), redis_url, lambda lease: keys.set(lease, "state", "paid")
        )
        state = server.get(keys.key("order:1", "state"))
    if how == "unguarded":
        assert (said, state) == ("landed", b"late"), "without the guard the late write arrives"
    else:
        assert (said, state) == (f"StaleFence {early} {later}", b"paid")
