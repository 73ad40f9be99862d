"""Reads through a chain beside a look into a dictionary, an exchange with Redis, and other libraries' caches."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import servers
from backstay.blocking import drive
from backstay.errors import Unavailable
from backstay.redis import target
from backstay.resilience.read_chain import LocalTier, ReadChain, RedisTier, reads
from backstay.resilience.read_chain.backends.lines import BlockingLines
from backstay.resilience.read_chain.backends.redis import RedisShared

from .harness import Case

LOCAL = LocalTier(fresh=3600, max_stale=7200)
KEY = "product:{product_id}"


def cases() -> Iterator[Case]:
    yield from _in_process()
    yield from _in_process_async()
    yield from _old_answers()
    yield from _on_redis()


def _product(product_id: int) -> str:
    return "honey"


async def _product_async(product_id: int) -> str:
    return "honey"


def _floor() -> Callable[[int], object]:
    """The least that such a cache does: a key, a look, a comparison with the clock."""
    kept = {"product:7": ("honey", time.monotonic() + 3600)}

    def look(product_id: int) -> object:
        found = kept.get(f"product:{product_id}")
        return found[0] if found is not None and time.monotonic() < found[1] else None

    return look


def _cachetools() -> Callable[[int], object] | None:
    if importlib.util.find_spec("cachetools") is None:
        return None
    library: Any = importlib.import_module("cachetools")
    cached: Callable[[int], object] = library.cached(
        library.TTLCache(maxsize=10_000, ttl=3600), lock=threading.Lock()
    )(_product)  # fmt: skip
    return cached


def _in_process() -> Iterator[Case]:
    floor, peer = _floor(), _cachetools()
    chain = ReadChain("bench-local", local=LOCAL, key=KEY)
    read, whole = chain(_product), chain.answers(_product)
    levelled = ReadChain("bench-levelled", local=LOCAL, key=KEY, reach=lambda: "origin")(_product)
    for each in (read, levelled):
        each(7)
    yield Case(
        name="fresh in the process", floor=lambda: floor(7), ours=lambda: read(7), clock="cpu",
        peer=None if peer is None else lambda: peer(7), peer_name="cachetools, with a lock",
    )  # fmt: skip
    yield Case(name="the same, with source and age", floor=lambda: floor(7), ours=lambda: whole(7), clock="cpu")
    yield Case(name="the same, while levels are asked", floor=lambda: floor(7), ours=lambda: levelled(7), clock="cpu")

    def collected() -> None:
        with reads():
            read(7)

    yield Case(name="the same, in a request that says it", floor=lambda: floor(7), ours=collected, clock="cpu")


def _aiocache() -> Callable[[int], Any] | None:
    if importlib.util.find_spec("aiocache") is None:
        return None
    library: Any = importlib.import_module("aiocache")
    cached: Callable[[int], Any] = library.cached(
        ttl=3600, key_builder=lambda function, product_id: f"product:{product_id}"
    )(_product_async)  # fmt: skip
    return cached


def _in_process_async() -> Iterator[Case]:
    look, peer = _floor(), _aiocache()
    read = ReadChain("bench-local-async", local=LOCAL, key=KEY)(_product_async)

    async def floor() -> object:
        return look(7)

    async def ours() -> object:
        return await read(7)

    async def theirs() -> object:
        assert peer is not None
        return await peer(7)

    yield Case(
        name="fresh in the process, async", floor=floor, ours=ours, clock="cpu",
        peer=None if peer is None else theirs, peer_name="aiocache",
    )  # fmt: skip


def _old_answers() -> Iterator[Case]:
    chain = ReadChain("bench-old", local=LocalTier(max_stale=7200), key=KEY)
    down = False

    @chain
    def read(product_id: int) -> str:
        if down:
            raise Unavailable("the database does not answer")
        return "honey"

    read(7)
    down = True

    def floor() -> object:
        try:
            raise Unavailable("the database does not answer")
        except Unavailable:
            return "honey"

    yield Case(name="old in the process, the origin refuses", floor=floor, ours=lambda: read(7), clock="cpu")


def _on_redis() -> Iterator[Case]:
    with servers.running("redis") as addresses:
        url = str(addresses["redis"])
        tier = RedisTier(store=url, fresh=3600, max_stale=7200, namespace="bench", budget=2.0)
        chain = ReadChain("bench-redis", redis=tier, key=KEY)
        read = chain(_product)
        read(7)
        lines, settings = BlockingLines(), target(url).settings
        name, _ = RedisShared("bench-redis", tier, 30).names("product:7")

        def one_get() -> object:
            return drive(lines.ask(settings, ("GET", name), 2.0))

        yield Case(name="fresh in Redis, beside one GET", floor=one_get, ours=lambda: read(7))
        lines.close()
        chain.close()
