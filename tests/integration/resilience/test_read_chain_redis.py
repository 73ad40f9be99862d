"""Read chains on a real Redis: several processes, forks, several loops, clients of either make (DG-6, AS-4)."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from backstay.resilience.read_chain import LocalTier, ReadChain, RedisTier

PROCESSES = 6


def chain_on(store: object, name: str = "catalogue", **tier: Any) -> ReadChain:
    settings: dict[str, Any] = {"fresh": 30, "max_stale": 600, "namespace": "redis-reads", "budget": 2.0, **tier}
    return ReadChain(name, key="product:{product_id}", redis=RedisTier(store=store, **settings))


def echo(product_id: int) -> int:
    return product_id


async def echo_async(product_id: int) -> int:
    return product_id


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    made = redis.Redis.from_url(redis_url)
    yield made
    made.close()


def _read_when_told(url: str, together: Any, told: Any) -> None:
    client = redis.Redis.from_url(url)
    chain = chain_on(url, "stampede", fresh=1.0, refill_lease=10.0)

    def slow(product_id: int) -> int:
        client.incr("origin-calls")
        time.sleep(0.3)
        return product_id

    together.wait(30)
    answer = chain.answers(slow)(1)
    told.put((answer.value, answer.source, answer.stale))
    chain.close()
    client.close()


def test_DG6_an_old_answer_is_fetched_by_one_of_several_processes(redis_url: str, client: redis.Redis) -> None:
    chain = chain_on(redis_url, "stampede", fresh=1.0)
    chain(echo)(1)
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(PROCESSES + 1), context.Queue()
    workers = [context.Process(target=_read_when_told, args=(redis_url, together, told)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    time.sleep(1.1)
    together.wait(30)
    answers = [told.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert sorted(answers) == [(1, "distributed_cache", True)] * (PROCESSES - 1) + [(1, "origin", False)]
    assert int(client.get("origin-calls") or 0) == 1
    chain.close()


def test_a_forked_child_reads_over_connections_of_its_own(redis_url: str) -> None:
    chain = chain_on(redis_url, "forked")
    read = chain.answers(echo)
    read(1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            right = [read(each).value == each for each in range(50)]
            code = 0 if all(right) and read(1).source == "distributed_cache" else 2
        finally:
            os._exit(code)
    for each in range(50):
        assert read(each).value == each
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    chain.close()


def test_AS4_one_chain_serves_several_loops_one_after_the_other(redis_url: str) -> None:
    chain = chain_on(redis_url, "loops")
    read = chain.answers(echo_async)

    async def main() -> list[str]:
        answers = await asyncio.gather(*(read(each) for each in range(20)))
        await chain.aclose()
        return [answer.source for answer in answers]

    assert asyncio.run(main()) == ["origin"] * 20
    assert asyncio.run(main()) == ["distributed_cache"] * 20


def test_clients_of_either_make_give_their_settings_only(redis_url: str) -> None:
    blocking, asynchronous = redis.Redis.from_url(redis_url), redis.asyncio.Redis.from_url(redis_url)
    first, second = chain_on(blocking, "clients"), chain_on(asynchronous, "clients")
    assert [first.answers(echo)(1).source, second.answers(echo)(1).source] == ["origin", "distributed_cache"]
    for chain in (first, second):
        chain.close()
    blocking.close()
    asyncio.run(asynchronous.aclose())


def test_DG6_poison_on_a_real_server_is_a_miss_and_is_mended(redis_url: str, client: redis.Redis) -> None:
    chain = chain_on(redis_url, "poison")
    read = chain.answers(echo)
    name = "backstay:redis-reads:read:1:{poison:product:1}"
    for poison in (lambda: client.set(name, b"\x80\x04garbage"), lambda: client.lpush(name, "x")):
        client.delete(name)
        poison()
        assert [read(1).source, read(1).source] == ["origin", "distributed_cache"]
    assert 0 < int(client.pttl(name)) <= 600_000
    chain.close()


def test_DG6_ages_are_those_of_the_server_between_two_processes(redis_url: str) -> None:
    first, second = chain_on(redis_url, "ages"), chain_on(redis_url, "ages")
    first(echo)(1)
    time.sleep(0.25)
    answer = second.answers(echo)(1)
    assert answer.age is not None and 0.25 <= answer.age < 2.0
    for chain in (first, second):
        chain.close()


def test_forgetting_reaches_other_processes_through_the_server(redis_url: str) -> None:
    first = chain_on(redis_url, "forget")
    second = ReadChain(
        "forget", key="product:{product_id}", local=LocalTier(max_stale=60),
        redis=RedisTier(store=redis_url, fresh=30, max_stale=600, namespace="redis-reads", budget=2.0),
    )  # fmt: skip
    first(echo)(1)
    assert second.answers(echo)(1).source == "distributed_cache"
    first.forget("product:1")
    assert second.answers(echo)(1).source == "origin"
    for chain in (first, second):
        chain.close()
