"""Redis killed, frozen and flushed under pybreaker's storage: calls go on, so does the loop, the state comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.resilience.pybreaker import (
    STATE_CLOSED,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitRedisStorage,
)

PATIENCE = 0.2  # of the client: what a call waits for each answer of a frozen server
LOOP_GAP = 0.020


class Failed(Exception):
    pass


def bad() -> None:
    raise Failed


@pytest.fixture
def server(own_redis: Callable[[], Any]) -> Any:
    return own_redis()


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    once = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(server.url, socket_timeout=PATIENCE, retry=once) as connected:
        yield connected


def guard(client: Any, fallback: str = STATE_CLOSED, **options: Any) -> CircuitBreaker:
    storage = CircuitRedisStorage(STATE_CLOSED, client, namespace="shop", fallback_circuit_state=fallback)
    return CircuitBreaker(fail_max=2, state_storage=storage, **options)


def answers_again(client: Any) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            assert client.ping()
            return
        except redis.RedisError:
            assert time.monotonic() < deadline, "the server never came back"
            time.sleep(0.02)


def test_a_killed_server_leaves_calls_to_the_fallback_state_and_comes_back(server: Any, client: Any) -> None:
    ours, other = guard(client), guard(client)
    assert ours.call(int) == 0
    server.kill()
    for _ in range(3):
        assert ours.call(int) == 0
        with pytest.raises(Failed):
            ours.call(bad)  # the caller sees its own error and none of the storage's
    server.start()
    answers_again(client)
    with pytest.raises(Failed):
        ours.call(bad)
    with pytest.raises(CircuitBreakerError):
        other.call(bad)
    with pytest.raises(CircuitBreakerError):
        ours.call(int)


def test_the_fallback_state_stands_for_that_of_a_server_that_is_gone(server: Any, client: Any) -> None:
    ours = guard(client, STATE_OPEN)
    assert ours.call(int) == 0
    server.kill()
    assert ours.current_state == STATE_OPEN
    server.start()
    answers_again(client)
    assert ours.call(int) == 0
    assert ours.current_state == STATE_CLOSED


def test_CB5_flushed_while_a_trial_call_runs_it_is_closed_and_no_permit_is_stuck(server: Any, client: Any) -> None:
    ours = guard(client, reset_timeout=0)
    for _ in range(2):
        with contextlib.suppress(Failed, CircuitBreakerError):
            ours.call(bad)
    assert ours.current_state == STATE_OPEN
    assert ours.call(client.flushall)
    assert [ours.call(int) for _ in range(3)] == [0, 0, 0]
    assert client.get("shop:pybreaker:probe") is None
    assert guard(client).call(int) == 0


def test_AS1_the_loop_goes_on_beside_a_frozen_server_and_callers_get_their_answers(server: Any, client: Any) -> None:
    ours = guard(client)

    @ours
    async def read(error: bool) -> str:
        if error:
            raise Failed
        return "done"

    async def main() -> float:
        assert await read(False) == "done"
        longest, ended = 0.0, False

        async def watch() -> None:
            nonlocal longest
            last = time.monotonic()
            while not ended:
                await asyncio.sleep(0)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
                await asyncio.sleep(0.001)
                last = time.monotonic()

        watching = asyncio.ensure_future(watch())
        await asyncio.to_thread(server.pause)
        try:
            found = await asyncio.gather(*(read(number == 0) for number in range(4)), return_exceptions=True)
        finally:
            await asyncio.to_thread(server.unpause)
        ended = True
        await watching
        assert isinstance(found[0], Failed)
        assert found[1:] == ["done"] * 3
        return longest

    assert min(asyncio.run(main()) for _ in range(2)) < LOOP_GAP
    assert ours.call(int) == 0
