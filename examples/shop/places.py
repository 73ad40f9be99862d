"""Where everything of one running shop is: databases, neighbours, stores. Kept in `places.json` of its data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, event

__all__ = ["SHARDS", "Places", "engine", "opened", "switches_url"]

SHARDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Addresses of one shop; the defaults of `embedded` need no server at all."""

    orders: tuple[str, ...]
    stock: str
    payments: str
    journal: str
    locks: str = "memory://"
    limits: str = "memory://"
    rate: str = "1000/second;burst=2000"
    switches: str
    stock_service: str
    payments_service: str

    @classmethod
    def embedded(cls, folder: Path, *, stock_service: str, payments_service: str) -> Places:
        """SQLite files in `folder` and in-process stores."""

        def file(name: str) -> str:
            return f"sqlite:///{folder.absolute() / name}.db"

        return cls(
            orders=tuple(file(f"orders-{n}") for n in range(SHARDS)),
            stock=file("stock"),
            payments=file("payments"),
            journal=file("journal"),
            switches=switches_url(folder),
            stock_service=stock_service,
            payments_service=payments_service,
        )

    @classmethod
    def load(cls, folder: Path | None = None) -> Places:
        """The places of the shop in `folder`, else in SHOP_DATA, else of the demo's protected shop."""
        folder = folder or Path(os.environ.get("SHOP_DATA", "build/demo/protected"))
        path = folder / "places.json"
        if not path.exists():
            raise FileNotFoundError(f"no shop in {folder}: set SHOP_DATA to the data folder of a shop that ran")
        places = json.loads(path.read_text())
        return cls(**{**places, "orders": tuple(places["orders"])})

    def save(self, folder: Path) -> None:
        """Write places.json, so that the services and a later recovery find the same addresses."""
        (folder / "places.json").write_text(json.dumps(asdict(self), indent=2))


def switches_url(folder: Path) -> str:
    """The switch file of a shop."""
    return f"file://{folder.absolute() / 'switches.toml'}"


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """An engine for the length of a block."""
    made = engine(url)
    try:
        yield made
    finally:
        made.dispose()


def engine(url: str, *, in_turn: bool = False) -> Engine:
    """An engine as any careful service makes it: on SQLite with write-ahead log and a patient busy timeout.

    With `in_turn`, threads queue for one SQLite connection instead of polling for the file's lock, which is faster.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=8, max_overflow=32, pool_pre_ping=True)
    queue = {"pool_size": 1, "max_overflow": 0} if in_turn else {}
    made = create_engine(url, connect_args={"timeout": 30}, **queue)

    @event.listens_for(made, "connect")
    def _pragmas(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's own connection
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return made
