"""All that the service keeps, in one database."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from .connection import Database
from .documents import Documents
from .fleet import Fleet
from .holders import Holders
from .records import Records
from .values import WallClock

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Store"]


class Store:
    """Documents with their history, tokens, audit and heartbeats.

        with Store("sqlite:///switches.db") as store:
            app = create_app(store)

    Args:
        url: `sqlite:///path` for one replica or several on one host; `postgresql+psycopg://...` for several hosts; or
            a SQLAlchemy `Engine` of either.
        wall: milliseconds since 1970.

    Raises:
        Misuse: it is neither, or was written by a newer Backstay.
        Unavailable: the database does not answer.
    """

    def __init__(self, url: str | Engine, *, wall: WallClock = lambda: time.time_ns() // 1_000_000) -> None:
        self.wall = wall
        self._database = Database(url)
        self.records = Records(self._database, wall)
        self.documents = Documents(self._database, self.records, wall)
        self.holders = Holders(self._database, self.records, wall)
        self.fleet = Fleet(self._database, wall)

    def close(self) -> None:
        """Close idle connections."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
