"""The shop on real servers: Redis (locks, limits), PostgreSQL (orders, payments, journal), MariaDB (stock)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from examples.shop.places import SHARDS, Places, switches_url

from .run import MakePlaces

__all__ = ["on_servers", "places_on"]


@contextmanager
def on_servers() -> Iterator[MakePlaces]:
    """Start the servers (tests/servers, in containers) and keep them for the length of the block."""
    import servers

    with servers.running("redis", "postgres", "mariadb") as addresses:
        yield places_on(addresses["redis"], addresses["postgres"], addresses["mariadb"])


def places_on(redis: str, postgres: str, mariadb: str) -> MakePlaces:
    """Places for each shop in fresh databases of the servers at these addresses."""

    def make(folder: Path, stock_service: str, payments_service: str) -> Places:
        prefix = f"shop_{folder.name}_{secrets.token_hex(3)}"
        return Places(
            orders=tuple(_database(postgres, f"{prefix}_orders_{n}") for n in range(SHARDS)),
            stock=_database(mariadb, f"{prefix}_stock"),
            payments=_database(postgres, f"{prefix}_payments"),
            journal=_database(postgres, f"{prefix}_journal"),
            locks=redis,
            limits=redis,
            switches=switches_url(folder),
            stock_service=stock_service,
            payments_service=payments_service,
        )

    return make


def _database(server: str, name: str) -> str:
    """Create a database and return its URL."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)
