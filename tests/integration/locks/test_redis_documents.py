"""Documents on a real Redis: hints through one subscription, cuts, lost replies, many writers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backstay.blocking import drive
from backstay.errors import OutcomeUnknown, Unavailable
from backstay.locks.backends.redis import RedisBackend, RedisSource
from backstay.locks.claims import Resource
from backstay.locks.documents import Document
from backstay.testing.proxy import FaultProxy
from backstay.url import parse

NEWS = Resource("n{}", "latch")
STEM = "backstay:docs:{n%7B%7D}:latch:"


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    url = parse(redis_url)
    with FaultProxy(url.host, url.port or 6379) as proxy:
        yield proxy


@pytest.fixture
def source(proxy: FaultProxy, redis_url: str) -> RedisSource:
    """Through the proxy, so that its connections can be cut."""
    return RedisSource.from_url(parse(proxy.url(redis_url)), "docs", 0.5)


@pytest.fixture
def other(redis_url: str) -> Iterator[RedisBackend]:
    """Another process, with a way of its own."""
    store = RedisSource.from_url(parse(redis_url), "docs", None).blocking()
    yield store
    drive(store.close())


def change(store: RedisBackend, text: str) -> Document:
    found = drive(store.documents.read(NEWS, 1.0))
    written = drive(store.documents.write(NEWS, text, found.version if found else 0, None, 1.0))
    assert written is not None
    return written


def test_R8_what_stands_in_redis(other: RedisBackend, server: Any) -> None:
    watch = drive(other.documents.watch(NEWS, 1.0))
    written = drive(other.documents.write(NEWS, "é|x", 0, 30.0, 1.0))
    assert written is not None
    assert sorted(server.keys("*")) == [(STEM + part).encode() for part in ("document", "watchers")]
    assert server.get(STEM + "document") == f"{written.version}|é|x".encode()
    assert 29_000 < server.pttl(STEM + "document") <= 30_001
    assert 0 < server.pttl(STEM + "watchers") <= 60_000, "a place that nobody keeps up disappears"
    assert abs(written.version / 1e6 - written.server_time) < 1.0
    kept = drive(other.documents.write(NEWS, "y", written.version, None, 1.0))
    assert kept is not None
    assert server.pttl(STEM + "document") == -1
    drive(watch.close())
    assert drive(other.documents.delete(NEWS, kept.version, 1.0))
    assert server.keys("*") == []


def test_a_thread_that_waits_hears_of_a_change_at_once_and_again_after_a_cut(
    source: RedisSource, other: RedisBackend, proxy: FaultProxy
) -> None:
    store = source.blocking()
    watch = drive(store.documents.watch(NEWS, 1.0))
    for _ in range(3):
        changed: list[float] = []

        def later(changed: list[float] = changed) -> None:
            time.sleep(0.1)
            changed.append(time.monotonic())
            change(other, "x")

        writer = threading.Thread(target=later)
        writer.start()
        assert drive(watch.wait(5.0))
        assert time.monotonic() - changed[0] < 0.5
        writer.join()
        while drive(watch.wait(0.05)):
            pass  # hints may come for nothing
        proxy.cut()
        change(other, "while it was cut off")
        begun = time.monotonic()
        assert drive(watch.wait(5.0)), "what was missed is a hint too"
        assert time.monotonic() - begun < 1.0
        while drive(watch.wait(0.05)):
            pass
    drive(watch.close())
    drive(store.close())


def test_a_task_that_waits_hears_of_a_change_at_once_and_again_after_a_cut(
    source: RedisSource, other: RedisBackend, proxy: FaultProxy
) -> None:
    async def main() -> None:
        store = source.asynchronous()
        watch = await store.documents.watch(NEWS, 1.0)
        for _ in range(3):
            waiting = asyncio.create_task(watch.wait(5.0))
            await asyncio.sleep(0.1)
            changed = time.monotonic()
            await asyncio.to_thread(change, other, "x")
            assert await waiting
            assert time.monotonic() - changed < 0.5
            while await watch.wait(0.05):
                pass
            await asyncio.to_thread(proxy.cut)
            await asyncio.to_thread(change, other, "while it was cut off")
            begun = time.monotonic()
            assert await watch.wait(5.0), "what was missed is a hint too"
            assert time.monotonic() - begun < 1.0
            while await watch.wait(0.05):
                pass
        await watch.close()
        await store.close()

    asyncio.run(main())


def test_a_watch_says_that_the_server_is_away_and_goes_on_when_it_is_back(
    source: RedisSource, other: RedisBackend, proxy: FaultProxy
) -> None:
    store = source.blocking()
    watch = drive(store.documents.watch(NEWS, 1.0))
    proxy.refuse()
    proxy.cut()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        drive(watch.wait(1.0))
        drive(watch.wait(1.0))
    proxy.heal()
    assert drive(watch.wait(1.0)), "what happened meanwhile was not told"
    change(other, "x")
    assert drive(watch.wait(1.0))
    drive(watch.close())
    drive(store.close())


def test_a_hint_that_is_lost_is_only_slow(other: RedisBackend, server: Any) -> None:
    """Here since the places were lost with a replica that had not seen them, as with FLUSHALL or a failover."""
    watch = drive(other.documents.watch(NEWS, 1.0))
    server.delete(STEM + "watchers")
    written = change(other, "x")
    assert not drive(watch.wait(0.2)), "nobody told it"
    found = drive(other.documents.read(NEWS, 1.0))
    assert found is not None
    assert found[:2] == written[:2]
    drive(watch.close())


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_a_lost_reply_to_a_change_is_unknown_and_settled_by_reading(
    source: RedisSource, proxy: FaultProxy, cut: bool
) -> None:
    store = source.blocking()
    assert drive(store.documents.read(NEWS, 1.0)) is None
    proxy.drop_replies(matching=b"EVAL", times=1, cut=cut)
    with pytest.raises(OutcomeUnknown):
        drive(store.documents.write(NEWS, "mine", 0, None, 0.5))
    proxy.heal()
    found = drive(store.documents.read(NEWS, 1.0))
    assert found is not None
    assert found.text == "mine"
    drive(store.close())


def test_200_watchers_of_one_process_share_one_subscription(other: RedisBackend, server: Any) -> None:
    watches = [drive(other.documents.watch(NEWS, 1.0)) for _ in range(200)]
    assert server.hlen(STEM + "watchers") == 200
    channels = [name for name in server.pubsub_channels("backstay:docs:mail:*") if server.pubsub_numsub(name)[0][1]]
    assert len(channels) == 1
    change(other, "x")
    assert all(drive(watch.wait(1.0)) for watch in watches)
    for watch in watches:
        drive(watch.close())
    assert server.hlen(STEM + "watchers") == 0


def test_writers_at_once_lose_nothing(redis_url: str) -> None:

    def work() -> None:
        store = RedisSource.from_url(parse(redis_url), "docs", None).blocking()
        for _ in range(100):
            while True:
                found = drive(store.documents.read(NEWS, 1.0))
                text, version = (found.text, found.version) if found else ("0", 0)
                if drive(store.documents.write(NEWS, str(int(text) + 1), version, None, 1.0)) is not None:
                    break
        drive(store.close())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = RedisSource.from_url(parse(redis_url), "docs", None).blocking()
    found = drive(store.documents.read(NEWS, 1.0))
    assert found is not None
    assert found.text == "600"
    drive(store.close())
