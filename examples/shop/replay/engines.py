"""The shop on real servers: Redis (locks, limits), PostgreSQL (orders, payments, journal), MariaDB (stock)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
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

        def make(folder: Path, stock_service: str, payments_service: str) -> Places:
            prefix = f"shop_{folder.name}_{secrets.token_hex(3)}"
            names = [*(f"orders_{n}" for n in range(SHARDS)), "payments", "journal"]
            postgres = [_database(addresses["postgres"], f"{prefix}_{name}") for name in names]
            mariadb = _database(addresses["mariadb"], f"{prefix}_stock")
            return places_on(addresses["redis"], postgres, mariadb)(folder, stock_service, payments_service)

        yield make


def places_on(redis: str, postgres: Sequence[str], mariadb: str) -> MakePlaces:
    """Places of one shop in these empty databases: six of PostgreSQL, one of MariaDB."""
    *orders, payments, journal = postgres

    def make(folder: Path, stock_service: str, payments_service: str) -> Places:
        return Places(
            orders=tuple(orders),
            stock=mariadb,
            payments=payments,
            journal=journal,
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
