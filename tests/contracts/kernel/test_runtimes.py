"""The runtime port's contract over the three runtimes.

Two of them wait in real time: waiting is what is tested, and the waits are of hundredths of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime, drive
from backstay.runtime import Runtime
from backstay.simulation import Network, World
from backstay.testing.runtime import RuntimeContract

T = TypeVar("T")


class TestBlocking(RuntimeContract):
    def run(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        return drive(work(BlockingRuntime()))


class TestAsyncio(RuntimeContract):
    def run(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(work(AsyncioRuntime()))


class TestAsyncioWithoutAnyio(RuntimeContract):
    """`shield` takes another path where anyio is not loaded; here it is in the process, so it is hidden."""

    @pytest.fixture(autouse=True)
    def no_anyio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(__import__("sys").modules, "anyio", raising=False)

    def run(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(work(AsyncioRuntime()))


class TestSimulation(RuntimeContract):
    @pytest.fixture(autouse=True, params=range(5))
    def seeded(self, request: pytest.FixtureRequest) -> None:
        self.seed: int = request.param

    def run(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        world = World(self.seed, network=Network(loss=0.1))
        host = world.host("host", offset=50.0, rate=1.0)
        task = world.start(host, work(host))
        world.run()
        return task.result()
