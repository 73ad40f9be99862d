"""The make of a journal's database that fits what the application named."""

from __future__ import annotations

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from .database import AsyncDatabase, BlockingDatabase
from .engines import async_engine, engine
from .lanes import LaneDatabase

__all__ = ["async_database", "blocking_database"]


def blocking_database(given: str | URL | Engine) -> BlockingDatabase:
    """Return a database for threads."""
    return BlockingDatabase(engine(given))


def async_database(given: str | URL | AsyncEngine) -> AsyncDatabase | LaneDatabase:
    """Return a database for one event loop."""
    made = async_engine(given)
    return AsyncDatabase(made) if isinstance(made, AsyncEngine) else LaneDatabase(made)
