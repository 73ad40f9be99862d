"""The journal's and the barrier's contracts over PostgreSQL and MariaDB, in threads and in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from backstay.blocking import drive
from backstay.testing.txn import BarrierContract, JournalContract
from backstay.txn import AsyncBarrier, Barrier, Branch
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


class TestJournalOnPostgres(JournalContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        return drive(_prepared(SqlJournal(blocking_database(self.url)), work))


class TestJournalOnAsyncPostgres(TestJournalOnPostgres):
    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        async def start() -> T:
            return await _prepared(SqlJournal(async_database(self.url)), work)

        return asyncio.run(start())


class TestJournalOnMariadb(JournalContract):
    @pytest.fixture(autouse=True)
    def database(self, mariadb_url: str) -> None:
        self.url = mariadb_url

    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        return drive(_prepared(SqlJournal(blocking_database(self.url)), work))


class TestBarrierOnPostgres(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> Iterator[None]:
        self.engine = create_engine(postgres_url)
        Barrier.create(self.engine)
        yield
        self.engine.dispose()

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        with self.engine.begin() as connection:
            return Barrier(self.engine).call(connection, branch, function)


class TestBarrierOnAsyncPostgres(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        async def call(filled: Branch) -> Any:
            return function(filled)

        async def work() -> Any:
            engine = create_async_engine(self.url)
            await AsyncBarrier.create(engine)
            try:
                async with engine.begin() as connection:
                    return await AsyncBarrier(engine).call(connection, branch, call)
            finally:
                await engine.dispose()

        return asyncio.run(work())


class TestBarrierOnMariadb(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, mariadb_url: str) -> Iterator[None]:
        self.engine = create_engine(mariadb_url)
        Barrier.create(self.engine)
        yield
        self.engine.dispose()

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        with self.engine.begin() as connection:
            return Barrier(self.engine).call(connection, branch, function)
