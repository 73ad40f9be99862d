"""The barrier's contract over SQLite: Connection, Session, AsyncConnection and AsyncSession."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from backstay.testing.txn import BarrierContract
from backstay.txn import AsyncBarrier, Barrier, Branch


class TestConnection(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> Iterator[None]:
        self.engine = create_engine(f"sqlite:///{tmp_path}/business.db")
        Barrier.create(self.engine)
        yield
        self.engine.dispose()

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        with self.engine.begin() as connection:
            return Barrier().call(connection, branch, function)


class TestSession(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> Iterator[None]:
        self.engine = create_engine(f"sqlite:///{tmp_path}/business.db")
        Barrier.create(self.engine)
        yield
        self.engine.dispose()

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        with Session(self.engine) as session, session.begin():
            return Barrier(self.engine).call(session, branch, function)


class TestAsyncConnection(BarrierContract):
    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{tmp_path}/business.db"

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        async def work() -> Any:
            engine = create_async_engine(self.url)
            await AsyncBarrier.create(engine)
            try:
                async with engine.begin() as connection:
                    return await AsyncBarrier(engine).call(connection, branch, _async(function))
            finally:
                await engine.dispose()

        return asyncio.run(work())


class TestAsyncSession(TestAsyncConnection):
    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        async def work() -> Any:
            engine = create_async_engine(self.url)
            await AsyncBarrier.create(engine)
            try:
                async with AsyncSession(engine) as session, session.begin():
                    return await AsyncBarrier().call(session, branch, _async(function))
            finally:
                await engine.dispose()

        return asyncio.run(work())


def _async(function: Callable[[Branch], Any]) -> Callable[[Branch], Any]:
    async def call(branch: Branch) -> Any:
        return function(branch)

    return call
