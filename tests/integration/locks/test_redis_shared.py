"""What several can hold, on a real Redis: keys and their ends, many waiters, listing, and the scripts beside the small
server of the simulator."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backstay.blocking import drive
from backstay.errors import Misuse, Unavailable
from backstay.locks import Locks
from backstay.locks.backend import Busy, Renewal
from backstay.locks.backends.redis import RedisBackend, RedisSource
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, permits, stripes, whole
from backstay.locks.errors import SizeDiffers
from backstay.url import parse
from stateful.locks.beside import DirectWire
from stateful.locks.lua_redis import LuaRedis


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisBackend]:
    store = RedisSource.from_url(parse(redis_url), "it", None).blocking()
    yield store
    drive(store.close())


def token() -> str:
    return f"h-1-{'a' * 32}-{uuid.uuid4().int}"


GPU, BOOK, STOCK = (
    Resource("a{b}", "semaphore"),
    Resource("a{b}", "read-write lock"),
    Resource("a{b}", "segmented lock"),
)


def test_R8_RW1_what_stands_in_redis(store: RedisBackend, server: Any) -> None:
    one, other = token(), token()
    fence = drive(store.take(GPU, one, permits(2, 3), 10.0, "", 1.0))
    second = drive(store.take(GPU, other, permits(1, 3), 60.0, "", 1.0))
    assert isinstance(fence, int)
    assert isinstance(second, int)
    assert second > fence
    stem = "backstay:it:{a%7Bb%7D}:semaphore:"
    assert sorted(server.keys("*")) == [(stem + part).encode() for part in ("ends", "fence", "holders", "size")]
    assert server.ttl(stem + "fence") == server.ttl(stem + "size") == -1, "F3: what must not be forgotten has no expiry"
    for part in ("holders", "ends"):
        assert 60_000 < server.pttl(stem + part) <= 61_001, "as long as the longest, and a second more"
    assert server.hget(stem + "holders", one) == f"{fence}|,2,0".encode()
    drive(store.release(GPU, other, second, 1.0))
    for part in ("holders", "ends"):
        assert 9_000 < server.pttl(stem + part) <= 11_001
    drive(store.release(GPU, one, fence, 1.0))
    assert sorted(server.keys("*")) == [(stem + part).encode() for part in ("fence", "size")]


def test_kinds_of_one_name_never_meet(store: RedisBackend) -> None:
    claims = [(GPU, permits(3, 3)), (BOOK, WRITE), (STOCK, whole(4)), (Resource("a{b}"), MUTEX)]
    fences = [drive(store.take(resource, token(), claim, 10.0, "", 1.0)) for resource, claim in claims]
    assert all(isinstance(fence, int) for fence in fences)
    assert sorted(drive(store.resources(10, 1.0))) == sorted(resource for resource, _ in claims)


def test_S1_a_grant_ends_by_the_servers_time_though_others_stay(store: RedisBackend) -> None:
    assert isinstance(drive(store.take(GPU, token(), permits(2, 3), 0.2, "", 1.0)), int)
    assert isinstance(drive(store.take(GPU, token(), permits(1, 3), 60.0, "", 1.0)), int)
    busy = drive(store.take(GPU, token(), permits(1, 3), 10.0, "", 1.0))
    assert isinstance(busy, Busy)
    assert busy.left is not None
    assert 0.0 < busy.left <= 0.202
    time.sleep(busy.left + 0.002)
    assert len(drive(store.inspect(GPU, 1.0)).holders) == 1
    assert isinstance(drive(store.take(GPU, token(), permits(2, 3), 10.0, "", 1.0)), int)


def test_R9_scripts_that_the_server_forgot_are_sent_again(own_redis: Any) -> None:
    url = own_redis().url
    store = RedisSource.from_url(parse(url), "it", None).blocking()
    with redis.Redis.from_url(url) as server:

        def forget() -> None:
            server.script_flush()

        owner = token()
        forget()
        fence = drive(store.take(GPU, owner, permits(3, 3), 10.0, "", 1.0))
        assert isinstance(fence, int)
        forget()
        assert [each.value for each in drive(store.renew([Renewal(GPU, owner, fence, 20.0)], 1.0))] == ["renewed"]
        forget()
        assert drive(store.lessen(GPU, owner, fence, permits(1, 3), 1.0)).value == "freed"
        forget()
        assert drive(store.resize(GPU, 2, False, 1.0)) == 3
        forget()
        assert drive(store.inspect(GPU, 1.0)).size == 2
        forget()
        assert drive(store.resources(5, 1.0)) == [GPU]
        forget()
        drive(store.withdraw(GPU, owner, True, 1.0))
        assert drive(store.resources(5, 1.0)) == []
    drive(store.close())


def test_R13_listing_looks_at_some_keys_at_a_time(own_redis: Any) -> None:
    url = own_redis().url
    store = RedisSource.from_url(parse(url), "it", None).blocking()
    with redis.Redis.from_url(url) as server:
        with server.pipeline(transaction=False) as many:
            for number in range(20_000):
                many.set(f"other:{number}", "x")
                many.set(f"backstay:it:{{idle{number}}}:fence", "1")
                many.set(f"backstay:elsewhere:{{busy{number}}}:owner", "x|1")
            many.execute()
        held = [Resource(f"n}}{number}\n*", kind) for number in range(30) for kind in ("lock", "semaphore")]
        for resource in held:
            claim = MUTEX if resource.kind == "lock" else permits(1, 2)
            assert isinstance(drive(store.take(resource, token(), claim, 60.0, "", 1.0)), int)
        lapsed = Resource("lapsed", "read-write lock")
        assert isinstance(drive(store.take(lapsed, token(), READ, 0.001, "", 1.0)), int)
        server.config_resetstat()
        assert sorted(drive(store.resources(100, 10.0))) == sorted(held)
        assert len(drive(store.resources(7, 10.0))) == 7
        stats = server.info("commandstats")
        assert "cmdstat_keys" not in stats
        assert stats["cmdstat_scan"]["calls"] > 60, "a thousand keys at a time"
        assert stats["cmdstat_scan"]["usec_per_call"] < 5_000
        with pytest.raises(Unavailable, match="too many keys"):
            drive(store.resources(100, 0.001))
    drive(store.close())


def test_a_lock_is_neither_lessened_nor_resized(store: RedisBackend) -> None:
    with pytest.raises(Misuse, match="held as a whole"):
        drive(store.lessen(Resource("x"), token(), 1, MUTEX, 1.0))
    with pytest.raises(Misuse, match="held as a whole"):
        drive(store.resize(Resource("x"), 4, False, 1.0))


def test_W6_S2_500_waiters_get_their_permits_in_turn_and_without_a_herd(own_redis: Any) -> None:
    url = own_redis().url
    got: list[int] = []
    inside = most = 0
    counting = threading.Lock()
    with Locks.connect(url, namespace="it") as locks, redis.Redis.from_url(url) as server:
        pool = locks.semaphore("pool", permits=4, wait=60.0, ttl=60.0)

        def work() -> None:
            nonlocal inside, most
            with pool as lease:
                with counting:
                    inside += 1
                    most = max(most, inside)
                    got.append(lease.fence)
                with counting:
                    inside -= 1

        def queued() -> int:
            length: int = server.llen("backstay:it:{pool}:semaphore:queue")
            return length

        first = [pool.acquire() for _ in range(4)]
        threads = [threading.Thread(target=work) for _ in range(500)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30.0
        while queued() < 500:
            assert time.monotonic() < end
            time.sleep(0.01)
        server.config_resetstat()
        begun = time.monotonic()
        for lease in first:
            lease.release()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        scripts = server.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert len(got) == 500
        assert most <= 4
        # A release each, and one look of everybody at each beat of 1.6 to 2 s.
        assert scripts <= 504 * 1.1 + 500 * (took / 1.6 + 1), f"{scripts} scripts in {took:.1f} s"
        left = [key for key in server.keys("backstay:it:*") if not key.endswith((b":fence", b":size"))]
        assert [key for key in left if b":gone:" not in key] == []


CLAIMS: dict[str, list[Claim]] = {
    "read-write lock": [READ, READ, WRITE],
    "semaphore": [permits(1, 4), permits(2, 4), permits(3, 4), permits(2, 5), permits(1, 0)],
    "segmented lock": [stripes([0], 4), stripes([0, 1], 4), stripes([1, 2], 4), whole(4), stripes([5], 8)],
}
LESS = {"read-write lock": READ, "semaphore": permits(1, 4)}


@pytest.mark.parametrize("kind", CLAIMS)
def test_the_small_redis_of_the_simulator_answers_like_the_real_one(kind: str, redis_url: str, server: Any) -> None:
    """The same random requests to the shipped scripts on both; fences and times differ, everything else must not."""
    real = RedisSource.from_url(parse(redis_url), "twin", None).blocking()
    notes: list[str] = []
    small = LuaRedis(lambda: time.time_ns() / 1e9, lambda channel, message: notes.append(message) or 1)
    twin = RedisBackend(DirectWire(small), None, "twin", "lua", 1.0)  # type: ignore[arg-type]  # no mailbox
    listening = server.pubsub()
    listening.subscribe("twin-notes")
    assert listening.get_message(timeout=5.0)["type"] == "subscribe"
    chance = random.Random(5)
    resource, fences = Resource("n", kind), dict[str, tuple[int, int]]()
    tokens = {token(): chance.choice(CLAIMS[kind]) for _ in range(9)}

    def ask(one: RedisBackend, kind: str, owner: str, claim: Claim, fence: int, address: str, size: int) -> Any:
        if kind == "take":
            try:
                return drive(one.take(resource, owner, claim, 60.0, address, 1.0))
            except SizeDiffers as error:
                return error.said, error.size
        if kind == "release":
            return drive(one.release(resource, owner, fence, 1.0))
        if kind == "renew":
            return drive(one.renew([Renewal(resource, owner, fence, 60.0)], 1.0))
        if kind == "lessen":
            return drive(one.lessen(resource, owner, fence, LESS.get(resource.kind, claim), 1.0))
        if kind == "resize":
            return drive(one.resize(resource, size, chance_to_drain, 1.0))
        return drive(one.withdraw(resource, owner, False, 1.0))

    def shape(answer: Any) -> Any:
        if isinstance(answer, Busy):
            return answer.waiters, answer.owner, answer.left is None
        return "a fence" if isinstance(answer, int) and answer > 1000 else answer

    granted = 0
    for _ in range(500):
        what = chance.choice(["take", "take", "take", "take", "release", "release", "renew", "lessen", "withdraw"])
        if kind != "read-write lock" and chance.random() < 0.03:
            what = "resize"
        chance_to_drain = kind == "segmented lock" and chance.random() < 0.5
        holders = [each.token for each in drive(twin.inspect(resource, 1.0)).holders]
        owner = chance.choice(holders if holders and what in ("release", "lessen") else list(tokens))
        address = chance.choice(["", "twin-notes", "twin-notes"])
        size = chance.choice([4, 8]) if kind == "segmented lock" else chance.randint(3, 5)
        mine, theirs = fences.get(owner, (1, 1))
        ours = ask(real, what, owner, tokens[owner], mine, address, size)
        other = ask(twin, what, owner, tokens[owner], theirs, address, size)
        assert shape(ours) == shape(other), (what, owner)
        if what == "take" and isinstance(ours, int):
            fences[owner] = ours, other
            granted += 1
        told: list[str] = []
        end = time.monotonic() + 2.0
        while len(told) < len(notes) and time.monotonic() < end:
            message = listening.get_message(timeout=0.05)
            if message is not None:
                told.append(message["data"].decode())
        assert [note.split("|")[0] for note in told] == [note.split("|")[0] for note in notes]
        for one, two in zip(told, notes, strict=True):
            fences[one.split("|")[0]] = int(one.split("|")[1]), int(two.split("|")[1])
        granted += len(notes)
        notes.clear()
        survey, simulated = drive(real.inspect(resource, 1.0)), drive(twin.inspect(resource, 1.0))
        assert [each[:2] for each in survey.holders] == [each[:2] for each in simulated.holders]
        assert (survey.size, survey.waiters) == (simulated.size, simulated.waiters)
    assert granted > 60
    listening.close()
    drive(real.close())
