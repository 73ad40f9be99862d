"""Guarded keys on a real Redis, single and cluster, in threads and in asyncio, with replies that are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.locks.guards import FencingToken, StaleFence
from backstay.locks.guards.redis import AsyncFencedKeys, FencedKeys
from backstay.testing.proxy import FaultProxy
from backstay.url import parse
from servers.sets import Cluster

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def token(fence: int, name: str = "cart:7") -> FencingToken:
    return FencingToken(name=name, fence=fence)


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["url", "client", "decoding client"])
def keys(request: pytest.FixtureRequest, redis_url: str) -> Iterator[FencedKeys]:
    if request.param == "url":
        with FencedKeys.connect(redis_url, namespace="guards") as keys:
            yield keys
        return
    with redis.Redis.from_url(redis_url, decode_responses=request.param != "client") as client:
        yield FencedKeys.connect(client, namespace="guards")


def test_F6_a_late_write_changes_nothing(keys: FencedKeys, server: Any) -> None:
    items, total = keys.key("cart:7", "items"), keys.key("cart:7", "total")
    keys.set(token(5), "items", b"\xff\x00")
    keys.set(token(7), "items", "b", ttl=30)
    assert keys.run(token(7), ADD, keys=[total], args=[5]) == 5
    before = {key: server.dump(key) for key in server.scan_iter()}
    for call in (
        lambda: keys.set(token(6), "items", "late"),
        lambda: keys.delete(token(6), "items", "total"),
        lambda: keys.run(token(6), ADD, keys=[total], args=[100]),
        lambda: keys.admit(token(6)),
    ):
        with pytest.raises(StaleFence) as stale:
            call()
        assert stale.value.highest == 7
    assert {key: server.dump(key) for key in server.scan_iter()} == before
    assert 29_000 < server.pttl(items) <= 30_000
    assert keys.delete(token(7), "items", "other") == 1
    with pytest.raises(StaleFence):
        keys.set(token(6), "items", "after the delete")


def test_F3_fences_beyond_53_bits_are_compared_exactly(keys: FencedKeys) -> None:
    keys.admit(token(2**63 - 1))
    with pytest.raises(StaleFence) as stale:
        keys.admit(token(2**63 - 2))
    assert stale.value.highest == 2**63 - 1


def test_R9_scripts_that_the_server_forgot_are_sent_again(keys: FencedKeys, server: Any) -> None:
    keys.set(token(5), "items", "a")
    server.script_flush()
    keys.set(token(5), "items", "b")
    assert server.get(keys.key("cart:7", "items")) == b"b"


def test_a_script_that_fails_says_so_and_the_connection_goes_on(keys: FencedKeys, server: Any) -> None:
    for script in (
        "return redis.call('INCR', KEYS[1], 'too', 'many')",
        "return redis.error_reply('NO my own refusal')",
        "this is not Lua",
        "return nothing.at.all",
    ):
        with pytest.raises(Misuse):
            keys.run(token(5), script, keys=[keys.key("cart:7", "x")])
    keys.set(token(5), "items", "a")
    assert server.get(keys.key("cart:7", "items")) == b"a"


def test_F6_many_writers_at_once_leave_the_highest(redis_url: str, server: Any) -> None:
    with FencedKeys.connect(redis_url, namespace="guards") as keys:
        refused: list[int] = []

        def write(numbers: range) -> None:
            for fence in numbers:
                try:
                    keys.set(token(fence), "items", fence)
                except StaleFence:
                    refused.append(fence)

        threads = [threading.Thread(target=write, args=(range(1 + n, 801, 8),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.get(keys.key("cart:7", "items")) == b"800"
        assert len(refused) < 800


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_a_lost_reply_is_unknown_and_nothing_is_sent_twice(redis_url: str, server: Any, cut: bool) -> None:
    url = parse(redis_url)
    with FaultProxy(url.host, url.port or 6379) as proxy:
        with FencedKeys.connect(proxy.url(redis_url), namespace="guards", answer_within=0.4) as keys:
            total = keys.key("cart:7", "total")
            keys.run(token(5), ADD, keys=[total], args=[1])
            proxy.drop_replies(matching=b"EVALSHA", times=1, cut=cut)
            with pytest.raises(OutcomeUnknown) as unknown:
                keys.run(token(5), ADD, keys=[total], args=[1])
            assert unknown.value.ask == {"lock": "cart:7", "fence": 5}
            assert server.get(total) == b"2", "it was done once, although nobody answered"
            assert keys.run(token(5), ADD, keys=[total], args=[1]) == 3
            proxy.refuse()
            with FencedKeys.connect(proxy.url(redis_url), namespace="guards") as fresh:
                with pytest.raises(Unavailable):
                    fresh.run(token(5), ADD, keys=[total], args=[1])
            assert server.get(total) == b"3"


def test_asyncio_has_the_same_guards(redis_url: str) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            own = AsyncFencedKeys.connect(redis_url, namespace="guards")
            for keys in (own, AsyncFencedKeys.connect(client, namespace="guards")):
                total = keys.key("cart:7", "total")
                await client.flushdb()
                await client.script_flush()
                await keys.set(token(5), "items", "a")
                assert await keys.run(token(7), ADD, keys=[total], args=[5]) == 5
                with pytest.raises(StaleFence):
                    await keys.set(token(6), "items", "late")
                with pytest.raises(StaleFence):
                    await keys.admit(token(6))
                with pytest.raises(Misuse):
                    await keys.run(token(7), "this is not Lua")
                assert await client.get(keys.key("cart:7", "items")) == b"a"
                # Cancelled midway, a connection is not given to the next one with a reply in it.
                for _ in range(20):
                    job = asyncio.ensure_future(keys.run(token(7), ADD, keys=[total], args=[1]))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    job.cancel()
                    await asyncio.gather(job, return_exceptions=True)
                    assert await keys.run(token(7), "return ARGV[1]", args=["mine"]) == b"mine"
                assert await keys.delete(token(7), "items") == 1
            await own.close()

    asyncio.run(main())


def test_asyncio_a_lost_reply_is_unknown(redis_url: str, server: Any) -> None:
    async def main() -> None:
        url = parse(redis_url)
        with FaultProxy(url.host, url.port or 6379) as proxy:
            connected = AsyncFencedKeys.connect(proxy.url(redis_url), namespace="guards", answer_within=0.4)
            async with connected as keys:
                total = keys.key("cart:7", "total")
                await keys.run(token(5), ADD, keys=[total], args=[1])
                for cut in (True, False):
                    proxy.drop_replies(matching=b"EVALSHA", times=1, cut=cut)
                    with pytest.raises(OutcomeUnknown):
                        await keys.run(token(5), ADD, keys=[total], args=[1])
                assert await asyncio.to_thread(server.get, total) == b"3"
                proxy.refuse()
                async with AsyncFencedKeys.connect(proxy.url(redis_url), namespace="guards") as fresh:
                    with pytest.raises(Unavailable):
                        await fresh.admit(token(5))

    asyncio.run(main())


def test_R8_on_a_cluster_all_keys_of_a_lock_are_on_one_node(own_cluster: Cluster) -> None:
    host, port = parse(own_cluster.url).hosts[0]
    with redis.RedisCluster(host=host, port=port or 6379) as client:
        keys = FencedKeys.connect(client, namespace="guards")
        for number in range(20):
            name = f"cart:{number}"
            keys.set(token(5, name), "items", "a")
            keys.set(token(7, name), "items", "b")
            assert keys.run(token(7, name), ADD, keys=[f"total:{keys.tag(name)}"], args=[5]) == 5
            with pytest.raises(StaleFence):
                keys.set(token(6, name), "items", "late")
            assert client.get(keys.key(name, "items")) == b"b"

    async def main() -> None:
        async with redis.asyncio.RedisCluster(host=host, port=port or 6379) as client:
            keys = AsyncFencedKeys.connect(client, namespace="guards")
            await keys.set(token(8, "cart:1"), "items", "c")
            with pytest.raises(StaleFence):
                await keys.set(token(7, "cart:1"), "items", "late")

    asyncio.run(main())
