"""What tests of read chains share: an origin under the test's hand in both colours, and a chain on shipped scripts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from backstay.resilience.read_chain import ReadChain, RedisTier
from backstay.resilience.read_chain.guarded import Guarded
from backstay.testing import ManualClock
from unit.resilience.lua_read_cache import LuaCache, LuaServer

__all__ = ["COLOURS", "Origin", "answering", "called", "on_lua"]

COLOURS = ("def", "async def")


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of either colour."""
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def answering(chain: ReadChain, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` behind the chain with calls that return the whole answer; its colour is not known here."""
    whole: Any = chain.answers(function)
    read: Callable[..., Any] = whole
    return read


class Origin:
    """What is read: answers until it is told to fail, and counts how often it was asked."""

    def __init__(self, colour: str = "def") -> None:
        self.colour = colour
        self.answers: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.asked: list[int] = []

    def read(self) -> Callable[..., Any]:
        def plain(product_id: int) -> Any:
            self.asked.append(product_id)
            if self.error is not None:
                raise self.error
            return self.answers.get(product_id, f"product {product_id}")

        async def asynchronous(product_id: int) -> Any:
            await asyncio.sleep(0)
            return plain(product_id)

        return plain if self.colour == "def" else asynchronous


def on_lua(
    clock: ManualClock, name: str = "catalogue", *, server: LuaServer | None = None, fresh: float = 30.0,
    max_stale: float = 3600.0, tier: dict[str, Any] | None = None, **options: Any,
) -> tuple[ReadChain, LuaServer]:  # fmt: skip
    """Return a chain whose distributed cache is the shipped one on a server in Lua, for both colours."""
    server = server or LuaServer(clock)
    settings = RedisTier(store="redis://localhost", fresh=fresh, max_stale=max_stale, **(tier or {}))
    options.setdefault("key", "product:{product_id}")
    options.setdefault("uniform", lambda low, high: low)
    chain = ReadChain(name, redis=settings, clock=clock, **options)
    assert chain.breaker is not None
    cache = LuaCache(name, settings, chain.settings.absent_for, server)
    chain._threads.shared = chain._tasks.shared = Guarded(cache, chain.breaker)
    return chain, server
