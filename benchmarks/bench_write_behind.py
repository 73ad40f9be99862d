"""Deductions in a cache on Redis beside a plain EVALSHA, and operations that one consumer brings to a database."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import create_engine, text

from backstay.resilience.write_behind import Balances, WriteBehind

from .harness import Case

_PLENTY = 10**14


def cases() -> Iterator[Case]:
    url = os.environ.get("BACKSTAY_TEST_REDIS_URL")
    with tempfile.TemporaryDirectory() as folder:
        if url:
            yield from _on_redis(url, Path(folder))
            return
        import servers

        with servers.running("redis") as addresses:
            yield from _on_redis(addresses["redis"], Path(folder))


def _on_redis(url: str, folder: Path) -> Iterator[Case]:
    client = redis.Redis.from_url(url)
    sha: Any = client.script_load("return 1")
    # What any correct script has to do: a balance, and an entry of a log. No id, so no second time is noticed.
    least: Any = client.script_load(
        "local left = redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('XADD', KEYS[2], '*', 'd', ARGV[1]) return left"
    )
    client.set("bench:balance", _PLENTY)

    def evalsha() -> object:
        return client.evalsha(sha, 1, "bench:k")

    def unsafe() -> object:
        return client.evalsha(least, 2, "bench:balance", "bench:log", 1)

    with _subject(url, folder) as subject:
        subject.enter()
        ids = itertools.count()

        def deduct() -> object:
            return subject.deduct(f"o{next(ids)}", "apple", 1)

        subject.deduct("known", "apple", 1)
        yield Case(name="deduct, Redis, beside a plain EVALSHA", floor=evalsha, ours=deduct)
        yield Case(name="deduct, Redis, beside DECRBY + XADD in a script", floor=unsafe, ours=deduct)
        yield Case(
            name="deduct again, same id, beside a plain EVALSHA", floor=evalsha,
            ours=lambda: subject.deduct("known", "apple", 1),
        )  # fmt: skip
        yield Case(name="balance, beside a plain EVALSHA", floor=evalsha, ours=lambda: subject.balance("apple"))
    client.flushdb()
    client.close()


def _subject(url: str, folder: Path) -> WriteBehind:
    database = f"sqlite:///{folder}/stock.db"
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stock (sku TEXT PRIMARY KEY, on_hand BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO stock VALUES ('apple', :plenty)"), {"plenty": _PLENTY})
    engine.dispose()
    balances = Balances(table="stock", key="sku", balance="on_hand")
    subject = WriteBehind.connect("bench", cache=url, database=database, balances=balances)
    subject.create_tables()
    return subject
