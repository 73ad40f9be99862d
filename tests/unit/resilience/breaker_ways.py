"""The ways to a breaker: one table of calls that serves both colours, streams and blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from backstay.blocking import drive
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen

Act = Callable[[], Any]
Way = Callable[[CircuitBreaker], Callable[[Act], Any]]


def by_function(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    @breaker
    def work(act: Act) -> Any:
        return act()

    return work


def by_coroutine(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    @breaker
    async def work(act: Act) -> Any:
        return act()

    return lambda act: drive(work(act))


def by_generator(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    @breaker
    def work(act: Act) -> Generator[Any]:
        yield act()

    return lambda act: next(iter(list(work(act))))


def by_async_generator(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    @breaker
    async def work(act: Act) -> AsyncGenerator[Any]:
        yield act()

    async def all_of(act: Act) -> list[Any]:
        return [each async for each in work(act)]

    return lambda act: drive(all_of(act))[0]


def by_block(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    def call(act: Act) -> Any:
        with breaker.admission():
            return act()

    return call


def by_async_block(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    async def call(act: Act) -> Any:
        async with breaker.admission():
            return act()

    return lambda act: drive(call(act))


def by_method(breaker: CircuitBreaker) -> Callable[[Act], Any]:
    class Client:
        @breaker
        def work(self, act: Act) -> Any:
            return act()

    return Client().work


WAYS = [by_function, by_coroutine, by_generator, by_async_generator, by_block, by_async_block, by_method]
every_way = pytest.mark.parametrize("way", WAYS)


class Down(Exception):
    """The dependency failed."""


def good() -> str:
    return "well"


def bad() -> str:
    raise Down("down")


def run(call: Callable[[Act], Any], acts: str) -> str:
    """Make calls, `+` good and `-` bad, and return how they ended: `+`, `-`, or `x` where they were refused."""
    ends = ""
    for act in acts:
        try:
            call(good if act == "+" else bad)
            ends += "+"
        except Down:
            ends += "-"
        except CircuitOpen:
            ends += "x"
    return ends
