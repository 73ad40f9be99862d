"""The journal's contract over SQLite, in threads and in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from backstay.blocking import drive
from backstay.testing.txn import JournalContract
from backstay.txn.journal import Journal
from backstay.txn.journals.opening import async_database, blocking_database
from backstay.txn.journals.sql import SqlJournal

T = TypeVar("T")


async def _prepared(journal: Journal, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
    try:
        await journal.prepare()
        return await work(journal)
    finally:
        await journal.close()


class TestSqlite(JournalContract):
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/journal.db"

    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        return drive(_prepared(SqlJournal(blocking_database(self.url)), work))


class TestSqliteInALoop(JournalContract):
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/journal.db"

    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        async def start() -> T:
            return await _prepared(SqlJournal(async_database(self.url)), work)

        return asyncio.run(start())
