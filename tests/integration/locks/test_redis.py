"""The mutex on a real Redis: connections, scripts, wake-ups, cancellation."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backstay.blocking import drive
from backstay.errors import Misuse, NotAcquired, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.backend import Busy, Renewal
from backstay.locks.backends.redis import RedisBackend, RedisSource
from backstay.locks.claims import MUTEX, Resource
from backstay.url import parse
from stateful.locks.beside import DirectWire
from stateful.locks.lua_redis import LuaRedis


@pytest.fixture
def named_url(redis_url: str) -> str:
    """A URL whose connections can be told from those of other tests."""
    return f"{redis_url}?client_name=it-{uuid.uuid4().hex}"


@pytest.fixture
def server(redis_url: str, named_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        client.named = named_url.rpartition("=")[2]
        yield client


@pytest.fixture
def locks(named_url: str) -> Iterator[Locks]:
    with Locks.connect(named_url, namespace="it") as locks:
        yield locks


def left(server: Any) -> list[bytes]:
    return [key for key in server.keys("backstay:it:*") if not key.endswith(b":fence") and b":gone:" not in key]


def clients(server: Any) -> list[Any]:
    """The connections of this test's locks; other tests and workers share the server."""
    return [each for each in server.client_list() if each["name"] == server.named]


def connections(server: Any) -> int:
    return len(clients(server))


def subscribed(server: Any) -> list[Any]:
    return [each for each in clients(server) if each["sub"] != "0"]


def test_R1_R8_what_stands_in_redis(locks: Locks, server: Any) -> None:
    with locks.mutex("a{b}", ttl=10.0) as lease:
        keys = sorted(server.keys("*"))
        stem = b"backstay:it:{a%7Bb%7D}:"
        assert keys == [stem + b"fence", stem + b"owner"]
        assert server.get(stem + b"owner") == f"{lease.token}|{lease.fence}".encode()
        assert 9_000 < server.pttl(stem + b"owner") <= 10_001
        assert server.ttl(stem + b"fence") == -1, "F3: a counter without an expiry"
        assert abs(lease.fence - int(server.time()[0]) * 1_000_000) < 60_000_000, "seeded from the server's time"
    assert server.keys("*") == [stem + b"fence"]


def test_F2_F3_fences_rise_over_a_flush(locks: Locks, server: Any) -> None:
    with locks.mutex("f") as first:
        pass
    server.flushdb()
    with locks.mutex("f") as second:
        assert second.fence > first.fence


def test_R9_scripts_that_the_server_forgot_are_sent_again(own_redis: Any) -> None:
    url = own_redis().url
    with Locks.connect(url, namespace="it") as locks, redis.Redis.from_url(url) as server:
        with locks.mutex("s", ttl=0.9) as lease:
            server.script_flush()
            lease.extend(5.0)
            server.script_flush()
            with pytest.raises(NotAcquired):
                locks.mutex("s", wait=0.05).acquire()
            server.script_flush()
        assert left(server) == []


def test_connections_that_the_server_closed_are_replaced(locks: Locks, server: Any) -> None:
    for _ in range(3):
        with locks.mutex("k") as lease:
            for client in clients(server):
                server.client_kill_filter(_id=client["id"])
            lease.check()
    assert left(server) == []


def test_a_thousand_leases_need_no_thousand_connections(locks: Locks, server: Any) -> None:
    before = connections(server)
    leases = [locks.mutex(f"many:{number}", ttl=3.0).acquire() for number in range(1000)]
    assert connections(server) - before <= 2
    assert not leases[0].lost.wait(3.5), "renewed in batches beyond the ttl"
    assert all(lease.is_valid() for lease in leases)
    assert connections(server) - before <= 3
    for lease in leases:
        lease.release()
    assert left(server) == []


def test_W3_waiting_threads_share_one_more_connection(locks: Locks, server: Any) -> None:
    before = connections(server)
    got: list[int] = []

    def wait() -> None:
        with locks.mutex("w", wait=20.0) as lease:
            got.append(lease.fence)

    with locks.mutex("w"):
        threads = [threading.Thread(target=wait) for _ in range(20)]
        for thread in threads:
            thread.start()
        until(lambda: server.llen("backstay:it:{w}:queue") == 20)
        assert len(subscribed(server)) == 1
    for thread in threads:
        thread.join()
    assert got == sorted(got)
    assert len(got) == 20
    assert connections(server) - before <= 22
    assert left(server) == []


def until(condition: Any, timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def test_W3_waiters_survive_the_loss_of_their_subscription(locks: Locks, server: Any) -> None:
    took: list[float] = []

    def wait() -> None:
        with locks.mutex("cut", wait=20.0):
            took.append(time.monotonic())

    with locks.mutex("cut", ttl=30.0):
        threads = [threading.Thread(target=wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: server.llen("backstay:it:{cut}:queue") == 5)
        (cut,) = subscribed(server)
        server.client_kill_filter(_id=cut["id"])
        until(lambda: [each["id"] != cut["id"] for each in subscribed(server)] == [True])
        released = time.monotonic()
    for thread in threads:
        thread.join()
    assert took[-1] - released < 1.0, "at once, not at the next beat"


def test_W3_asyncio_waiters_survive_the_loss_of_their_subscription(named_url: str, server: Any) -> None:
    async def main() -> float:
        async with AsyncLocks.connect(named_url, namespace="it") as locks:

            async def wait() -> None:
                async with locks.mutex("cut", wait=20.0):
                    pass

            lease = await locks.mutex("cut", ttl=30.0).acquire()
            waiters = [asyncio.create_task(wait()) for _ in range(5)]
            await asyncio.to_thread(until, lambda: server.llen("backstay:it:{cut}:queue") == 5)
            (cut,) = subscribed(server)
            server.client_kill_filter(_id=cut["id"])
            await asyncio.to_thread(until, lambda: [each["id"] != cut["id"] for each in subscribed(server)] == [True])
            released = time.monotonic()
            await lease.release()
            await asyncio.gather(*waiters)
            return time.monotonic() - released

    assert asyncio.run(main()) < 1.0


def test_threads_never_overlap_and_counters_are_exact(locks: Locks, server: Any) -> None:
    inside, overlaps, count = 0, 0, 0
    fences: list[int] = []

    def work() -> None:
        nonlocal inside, overlaps, count
        for _ in range(150):
            with locks.mutex("busy", wait=60.0) as lease:
                inside += 1
                overlaps += inside != 1
                count += 1
                fences.append(lease.fence)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (overlaps, count) == (0, 1200)
    assert all(low < high for low, high in itertools.pairwise(fences))
    assert left(server) == []


def test_C9_O7_asyncio_tasks_cancelled_at_random_leave_nothing_behind(redis_url: str, server: Any) -> None:
    async def main() -> tuple[int, int]:
        async with AsyncLocks.connect(redis_url, namespace="it") as locks:
            inside = cancelled = 0
            chance = random.Random(7)

            async def work(number: int) -> None:
                nonlocal inside
                async with locks.mutex(f"c{number % 3}", ttl=600.0, wait=60.0):
                    inside += 1
                    await asyncio.sleep(chance.uniform(0.0, 0.002))

            tasks = [asyncio.create_task(work(number)) for number in range(400)]
            for task in tasks:
                if chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.uniform(0.0, 0.3), task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            box = locks._protocol().backend._mailbox  # type: ignore[attr-defined]  # the Redis backend has one
            assert not box.letters
            assert locks._protocol()._keeper.grants(locks._protocol()) == []
            return inside, cancelled

    inside, cancelled = asyncio.run(main())
    assert cancelled > 20
    assert inside + cancelled >= 400
    assert left(server) == []


def test_asyncio_timeout_and_cancelling_keep_their_meaning(redis_url: str) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(redis_url, namespace="it") as locks:
            lease = await locks.mutex("t", ttl=30.0).acquire()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await locks.mutex("t", wait=30.0).acquire()
            task = asyncio.create_task(locks.mutex("t", wait=30.0).acquire())
            await asyncio.sleep(0.05)
            task.cancel()
            task.cancel()
            assert task.cancelling() == 2
            with pytest.raises(asyncio.CancelledError):
                await task
            await lease.release()
            await (await locks.mutex("t", wait=0.0).acquire()).release()

    asyncio.run(main())


def test_a_thousand_tasks_use_two_connections(named_url: str, server: Any) -> None:
    async def main() -> int:
        async with AsyncLocks.connect(named_url, namespace="it") as locks:
            before = connections(server)

            async def work(number: int) -> None:
                async with locks.mutex(f"t{number % 500}", wait=30.0):
                    pass

            tasks = [asyncio.create_task(work(number)) for number in range(1000)]
            await asyncio.sleep(0.05)
            most = connections(server) - before
            await asyncio.gather(*tasks)
            return most

    assert asyncio.run(main()) <= 2
    assert left(server) == []


def test_one_object_serves_loop_after_loop(redis_url: str) -> None:
    locks = AsyncLocks.connect(redis_url, namespace="it")

    async def once() -> int:
        async with locks.mutex("loops") as lease:
            return lease.fence

    fences = [asyncio.run(once()) for _ in range(5)]
    assert fences == sorted(set(fences))
    assert len(locks._protocols) <= 1, "ended loops are forgotten"


def test_T1_a_wall_clock_that_jumps_changes_nothing(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    with locks.mutex("clock", ttl=0.9) as lease:
        for hours in (1, -1, 24):
            monkeypatch.setattr(time, "time", lambda hours=hours: right() + hours * 3600.0)
            assert lease.is_valid()
            assert not lease.lost.wait(0.5)
            with pytest.raises(NotAcquired):
                locks.mutex("clock", wait=0.05).acquire()


def test_a_key_of_another_program_is_reported_and_left_alone(locks: Locks, server: Any) -> None:
    server.rpush("backstay:it:{foreign}:owner", "x")
    with pytest.raises(Misuse, match="refused a lock's script"):
        locks.mutex("foreign", wait=0.0).acquire()
    server.set("backstay:it:{forever}:owner", "somebody")
    with pytest.raises(NotAcquired, match="somebody") as refused:
        locks.mutex("forever", wait=0.1).acquire()
    assert refused.value.retry_after is None
    assert server.get("backstay:it:{forever}:owner") == b"somebody"


def test_wrong_credentials_are_misuse_and_not_shown(redis_url: str) -> None:
    url = parse(redis_url)
    with Locks.connect(f"redis://shop:hunter2@{url.host}:{url.port}/0") as locks:
        with pytest.raises(Misuse, match="credentials") as refused:
            locks.mutex("x", wait=0.0).acquire()
    assert "hunter2" not in str(refused.value)


def test_a_dead_port_is_unavailable_at_once() -> None:
    from servers.server import free_port

    port = free_port()
    with Locks.connect(f"redis://127.0.0.1:{port}/0") as locks:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="not reached"):
            locks.mutex("x", wait=0.0).acquire()
        assert time.monotonic() - start < 1.0
        with pytest.raises(Unavailable):
            locks.mutex("x", wait=0.3).acquire()
        assert 0.3 <= time.monotonic() - start < 2.0


def test_the_small_redis_of_the_simulator_answers_like_the_real_one(redis_url: str, server: Any) -> None:
    """The same random requests to the shipped scripts on both; fences and times differ, everything else must not."""
    real = RedisSource.from_url(parse(redis_url), "twin", None).blocking()
    listening = server.pubsub()
    notes: list[str] = []
    small = LuaRedis(lambda: time.time_ns() / 1e9, lambda channel, message: notes.append(message) or 1)
    twin = RedisBackend(DirectWire(small), None, "twin", "lua", 1.0)  # type: ignore[arg-type]
    listening.subscribe("twin-notes")
    until(lambda: server.pubsub_numsub("twin-notes")[0][1] == 1)
    chance = random.Random(3)
    tokens = [f"h-1-{'a' * 32}-{number}" for number in range(5)]
    fences: dict[str, tuple[int, int]] = {}

    def shape(answer: Any) -> Any:
        return (answer.waiters, answer.owner) if isinstance(answer, Busy) else type(answer)

    ours: Any
    other: Any
    for _ in range(600):
        kind, token = chance.choice(["take", "take", "release", "renew", "withdraw"]), chance.choice(tokens)
        mine, theirs = fences.get(token, (1, 1))
        if kind == "take":
            address = chance.choice(["", "twin-notes"])
            ours = drive(real.take(Resource("n"), token, MUTEX, 60.0, address, 1.0))
            other = drive(twin.take(Resource("n"), token, MUTEX, 60.0, address, 1.0))
            if isinstance(ours, int) and isinstance(other, int):
                fences[token] = ours, other
        elif kind == "release":
            ours, other = (
                drive(real.release(Resource("n"), token, mine, 1.0)),
                drive(twin.release(Resource("n"), token, theirs, 1.0)),
            )
        elif kind == "renew":
            ours = drive(real.renew([Renewal(Resource("n"), token, mine, 60.0)], 1.0))[0]
            other = drive(twin.renew([Renewal(Resource("n"), token, theirs, 60.0)], 1.0))[0]
            assert ours is other
            continue
        else:
            drive(real.withdraw(Resource("n"), token, False, 1.0))
            drive(twin.withdraw(Resource("n"), token, False, 1.0))
            ours = other = None
        assert shape(ours) == shape(other), (kind, token)
        told: list[str] = []
        while (message := listening.get_message(timeout=0.0)) is not None:
            if message["type"] == "message":
                told.append(message["data"].decode())
        if notes:
            until_told = time.monotonic() + 2.0
            while len(told) < len(notes) and time.monotonic() < until_told:
                message = listening.get_message(timeout=0.05)
                if message is not None and message["type"] == "message":
                    told.append(message["data"].decode())
        assert [note.split("|")[0] for note in told] == [note.split("|")[0] for note in notes]
        for one, two in zip(told, notes, strict=True):
            fences[one.split("|")[0]] = int(one.split("|")[1]), int(two.split("|")[1])
        notes.clear()
    listening.close()
    drive(real.close())


def test_N10_a_lease_that_was_dropped_warns_and_is_renewed_no_more(locks: Locks, server: Any) -> None:
    def leak() -> None:
        locks.mutex("leak", ttl=0.6).acquire()

    with pytest.warns(ResourceWarning, match=r"'leak', acquired at .*test_redis.py:\d+, was dropped"):
        leak()
    with locks.mutex("leak", wait=5.0) as lease:  # comes free by its ttl
        lease.check()


def test_O6_a_lock_lost_by_close_is_told(locks: Locks, redis_url: str) -> None:
    other = Locks.connect(redis_url, namespace="it")
    lease = other.mutex("o6", ttl=30.0).acquire()
    told = threading.Event()
    lease.lost.call(told.set)
    other.close()
    assert told.wait(5.0)
    with pytest.raises(LockLost, match=r"close\(\)"):
        lease.check()
    with locks.mutex("o6", wait=0.0):
        pass
