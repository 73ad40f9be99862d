"""The same shop on real servers: Redis for locks and limits, PostgreSQL and MariaDB for the books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from examples.shop.places import Places
from examples.shop.replay.data import CACHE, Replay
from examples.shop.replay.engines import places_on
from examples.shop.replay.run import run


def test_on_real_servers_the_protected_shop_breaks_nothing(
    tmp_path: Path, redis_url: str, postgres_urls: Callable[[int], list[str]], mariadb_url: str
) -> None:
    replay = Replay(count=60, seed=5, cache=CACHE)
    make = places_on(redis_url, postgres_urls(6), mariadb_url)
    outcome = asyncio.run(run("protected", replay, replay.opening(), tmp_path / "protected", make, lambda n: None, 8))
    assert outcome.books.violations == 0, outcome.books
    assert outcome.books.orders > 10
    assert {service for service, _ in outcome.kills} == {"orders", "payments"}
    places = Places.load(tmp_path / "protected")
    assert [url.partition(":")[0] for url in (places.stock, places.payments, places.locks)] == [
        "mysql+pymysql",
        "postgresql+psycopg",
        "redis",
    ]
