"""pybreaker's Redis keys, read and written beside a pybreaker that shares them; trial calls are one over processes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pybreaker
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.resilience.pybreaker import (
    STATE_CLOSED,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitRedisStorage,
)
from backstay.testing import ManualClock


class Failed(Exception):
    pass


def bad() -> None:
    raise Failed


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def namespace() -> str:
    return f"shop-{uuid.uuid4().hex[:8]}"


def breaker(client: Any, namespace: str, clock: ManualClock | None = None, **options: Any) -> CircuitBreaker:
    storage = CircuitRedisStorage(STATE_CLOSED, client, namespace=namespace)
    return CircuitBreaker(state_storage=storage, clock=clock or ManualClock(), **options)


def call(guarded: Any, *arguments: Any) -> None:
    with contextlib.suppress(Failed, pybreaker.CircuitBreakerError):
        guarded.call(*arguments)


def keys(client: Any, namespace: str) -> dict[str, bytes]:
    names = [key.decode() for key in client.scan_iter(f"{namespace}:*")]
    return {name.rpartition(":")[2]: client.get(name) for name in names}


def test_the_four_keys_are_pybreakers(client: Any, namespace: str) -> None:
    ours = breaker(client, namespace, fail_max=2)
    call(ours, bad)
    assert keys(client, namespace) == {"state": b"closed", "fail_counter": b"1", "success_counter": b"0"}
    call(ours, bad)
    found = keys(client, namespace)
    assert (found["state"], found["fail_counter"]) == (b"open", b"2")
    assert abs(int(found["opened_at"]) - int(client.time()[0])) <= 1
    assert set(found) == {"state", "fail_counter", "success_counter", "opened_at"}


def test_migration_each_sees_what_the_other_has_done(client: Any, namespace: str) -> None:
    theirs = pybreaker.CircuitBreaker(
        fail_max=3, state_storage=pybreaker.CircuitRedisStorage(STATE_CLOSED, client, namespace=namespace)
    )
    ours = breaker(client, namespace, fail_max=3)
    call(theirs, bad)
    call(ours, bad)
    assert theirs.fail_counter == ours.fail_counter == 2
    call(theirs, bad)
    with pytest.raises(CircuitBreakerError):
        ours.call(int)
    ours.close()
    assert theirs.call(int) == 0


def test_what_another_process_has_opened_is_tried_after_the_timeout(client: Any, namespace: str) -> None:
    first, second = breaker(client, namespace, fail_max=1), breaker(client, namespace, fail_max=1)
    call(first, bad)
    with pytest.raises(CircuitBreakerError) as refused:
        second.call(int)
    assert refused.value.retry_after == pytest.approx(60, abs=2)
    second.reset_timeout = -1  # over
    assert second.call(int) == 0
    assert first.call(int) == 0


def test_CB9_of_eight_breakers_one_tries(client: Any, namespace: str) -> None:
    clock = ManualClock()
    several = [breaker(client, namespace, clock, fail_max=1, reset_timeout=0) for _ in range(8)]
    call(several[0], bad)
    reached, refused = list[int](), list[int]()
    release, ready = threading.Event(), threading.Barrier(8)

    def work() -> None:
        reached.append(1)
        assert release.wait(10)

    def one(guarded: CircuitBreaker) -> None:
        ready.wait(10)
        try:
            guarded.call(work)
        except CircuitBreakerError:
            refused.append(1)
            if len(refused) == 7:
                release.set()

    threads = [threading.Thread(target=one, args=(each,)) for each in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(reached), len(refused)) == (1, 7)
    assert several[3].current_state == STATE_CLOSED
    assert "probe" not in keys(client, namespace)


def test_CB5_the_shared_trial_call_is_a_lease(client: Any, namespace: str) -> None:
    ours = breaker(client, namespace, fail_max=1, reset_timeout=0, probe_lease=30)
    call(ours, bad)
    block = ours.calling()
    block.__enter__()
    assert 0 < client.pttl(f"{namespace}:pybreaker:probe") <= 30_000
    with contextlib.suppress(KeyboardInterrupt):
        block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert client.get(f"{namespace}:pybreaker:probe") is None
    client.set(f"{namespace}:pybreaker:probe", "another process")
    with pytest.raises(CircuitBreakerError, match="trial call is under way"):
        ours.call(int)
    assert client.get(f"{namespace}:pybreaker:probe") == b"another process"


def test_AS1_the_loop_never_waits_for_redis(client: Any, namespace: str) -> None:
    asked: set[int] = set()

    class Watched(CircuitRedisStorage):
        @property
        def state(self) -> str:
            asked.add(threading.get_ident())
            return super().state

        @state.setter
        def state(self, state: str) -> None:
            asked.add(threading.get_ident())
            CircuitRedisStorage.state.fset(self, state)  # type: ignore[attr-defined]  # the property of the base

    guarded = CircuitBreaker(fail_max=1, state_storage=Watched(STATE_CLOSED, client, namespace=namespace))
    asked.clear()

    @guarded
    async def read() -> int:
        raise Failed

    async def main() -> None:
        with pytest.raises(CircuitBreakerError):
            await read()
        with pytest.raises(CircuitBreakerError):
            await read()

    asyncio.run(main())
    assert asked
    assert threading.get_ident() not in asked


def test_without_redis_it_goes_on_by_the_fallback_state(namespace: str) -> None:
    gone = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.05, retry=Retry(NoBackoff(), 0))
    storage = CircuitRedisStorage.__new__(CircuitRedisStorage)
    for name, value in {
        "_name": "redis",
        "_redis": gone,
        "_namespace_name": namespace,
        "_fallback_circuit_state": STATE_CLOSED,
        "_initial_state": STATE_CLOSED,
        "_cluster_mode": False,
    }.items():  # pybreaker's own constructor wants Redis to be there
        setattr(storage, name, value)
    guarded = CircuitBreaker(fail_max=1, state_storage=storage, clock=ManualClock())
    assert guarded.call(int) == 0
    with pytest.raises(Failed):
        guarded.call(bad)
    assert guarded.call(int) == 0
