"""Lost replies between a real client and a real Redis: the server did the work and the caller cannot know."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backstay.clock import monotonic
from backstay.errors import BackstayError, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, Locks
from backstay.testing.proxy import FaultProxy
from backstay.url import parse

SCRIPT = b"EVAL"  # begins the name of both ways to run one
ANSWER = 0.4


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
def locks(proxy: FaultProxy, redis_url: str) -> Iterator[Locks]:
    with Locks.connect(proxy.url(redis_url), namespace="lost", answer_within=ANSWER) as locks:
        yield locks


def owner(server: Any, name: str) -> str:
    value = server.get(f"backstay:lost:{{{name}}}:owner")
    return value.decode() if value else ""


def until(condition: Any, timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_R5_a_lost_reply_to_an_acquire_is_asked_again(locks: Locks, proxy: FaultProxy, server: Any, cut: bool) -> None:
    with locks.mutex("warm"):
        pass
    proxy.drop_replies(matching=SCRIPT, times=1, cut=cut)
    with locks.mutex("a", ttl=10.0, wait=5.0) as lease:
        assert proxy.counts.lost_replies == 1
        assert owner(server, "a") == f"{lease.token}|{lease.fence}"
        lease.check()
    assert owner(server, "a") == ""


def test_C2_without_time_to_ask_again_it_is_unknown_and_withdrawn(locks: Locks, proxy: FaultProxy, server: Any) -> None:
    with locks.mutex("warm"):
        pass
    proxy.drop_replies(matching=SCRIPT, times=1, cut=False)
    with pytest.raises(OutcomeUnknown) as unknown:
        locks.mutex("b", ttl=60.0, wait=0.0).acquire()
    assert unknown.value.ask["lock"] == "b"
    until(lambda: owner(server, "b") == "", timeout=10.0)
    token = unknown.value.ask["token"]
    assert 0 < server.ttl(f"backstay:lost:{{b}}:gone:{token}") <= 60, "a tombstone refuses a late copy"


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_R4_R6_a_lost_reply_to_a_release_frees_once_and_loses_nothing(
    locks: Locks, proxy: FaultProxy, server: Any, cut: bool
) -> None:
    lease = locks.mutex("c", ttl=30.0).acquire()
    proxy.drop_replies(matching=SCRIPT, times=1, cut=cut)
    if cut:  # the wire finds its connection broken, and sends again by itself
        lease.release()
    else:
        with pytest.raises(OutcomeUnknown):
            lease.release()
        assert owner(server, "c") == ""
        later = locks.mutex("c", ttl=30.0).acquire()
        lease.release()
        assert owner(server, "c") == f"{later.token}|{later.fence}", "the second copy freed somebody else's lock"
        later.release()
    assert owner(server, "c") == ""


def test_leaving_a_block_is_no_error_where_only_the_release_is_unanswered(
    locks: Locks, proxy: FaultProxy, server: Any
) -> None:
    with locks.mutex("d", ttl=60.0) as lease:
        proxy.drop_requests(matching=SCRIPT, times=1, cut=False)
    assert not lease.is_valid()
    until(lambda: owner(server, "d") == "")


def test_N2_N3_lost_renewals_are_repeated_and_the_lease_outlives_them(
    locks: Locks, proxy: FaultProxy, server: Any
) -> None:
    with locks.mutex("e", ttl=3.0) as lease:
        proxy.drop_replies(matching=SCRIPT, times=1, cut=True)
        assert not lease.lost.wait(1.6)
        proxy.drop_replies(matching=SCRIPT, times=1, cut=False)
        assert not lease.lost.wait(2.5)
        assert proxy.counts.lost_replies == 2
        lease.check()
        assert server.pttl("backstay:lost:{e}:owner") > 1000


def test_N3_C5_cut_off_the_holder_is_told_before_the_server_frees(locks: Locks, proxy: FaultProxy, server: Any) -> None:
    lease = locks.mutex("f", ttl=1.5).acquire()
    proxy.half_open()
    frees_at = monotonic() + server.pttl("backstay:lost:{f}:owner") / 1000.0
    assert lease.deadline < frees_at
    told: list[float] = []
    lease.lost.call(lambda: told.append(monotonic()))
    assert lease.lost.wait(5.0)
    assert not lease.is_valid()
    until(lambda: owner(server, "f") == "")
    assert monotonic() >= frees_at - 0.002
    until(lambda: told != [])
    proxy.heal()


def test_C8_a_silent_server_costs_the_wait_and_no_more(locks: Locks, proxy: FaultProxy) -> None:
    proxy.half_open()
    for wait in (0.0, 0.2, 1.0):
        start = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            locks.mutex("g", wait=wait).acquire()
        assert time.monotonic() - start < max(wait, ANSWER) + 0.4
    proxy.heal()
    with locks.mutex("g", wait=5.0):
        pass


def test_C8_R9_a_refusing_port_is_tried_again_within_the_wait(locks: Locks, proxy: FaultProxy) -> None:
    proxy.refuse()
    threading.Timer(0.5, proxy.heal).start()
    with locks.mutex("h", wait=10.0) as lease:
        lease.check()


def test_asyncio_lost_replies(proxy: FaultProxy, redis_url: str, server: Any) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(proxy.url(redis_url), namespace="lost", answer_within=ANSWER) as locks:
            async with locks.mutex("warm"):
                pass
            for cut in (True, False):
                proxy.drop_replies(matching=SCRIPT, times=1, cut=cut)
                async with locks.mutex("i", wait=5.0) as lease:
                    assert owner(server, "i") == f"{lease.token}|{lease.fence}"
                lease = await locks.mutex("i", ttl=30.0, wait=5.0).acquire()
                proxy.drop_replies(matching=SCRIPT, times=1, cut=cut)
                try:
                    await lease.release()
                except OutcomeUnknown:
                    await lease.release()
                assert owner(server, "i") == ""
            proxy.drop_replies(matching=SCRIPT, times=1, cut=False)
            with pytest.raises(OutcomeUnknown):
                await locks.mutex("j", ttl=60.0, wait=0.0).acquire()
            await asyncio.to_thread(until, lambda: owner(server, "j") == "")
            # Two that share the connection: the one in a hurry does not take the other's answer away.
            proxy.delay(replies=0.2)
            slow = asyncio.create_task(locks.mutex("k", wait=5.0).acquire())
            await asyncio.sleep(0.01)
            with pytest.raises(BackstayError):
                await locks.mutex("k", wait=0.05).acquire()
            proxy.heal()
            lease = await slow
            lease.check()
            await lease.release()

    asyncio.run(main())


def test_cancelled_while_the_reply_is_on_its_way(proxy: FaultProxy, redis_url: str, server: Any) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(proxy.url(redis_url), namespace="lost", answer_within=5.0) as locks:
            async with locks.mutex("warm"):
                pass
            proxy.delay(replies=0.15)
            task = asyncio.create_task(locks.mutex("l", ttl=60.0).acquire())
            await asyncio.to_thread(until, lambda: owner(server, "l") != "")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert owner(server, "l") == "", "granted, cancelled, given back (O7)"
            proxy.heal()
            await (await locks.mutex("l", wait=0.0).acquire()).release()

    asyncio.run(main())


def test_a_waiter_whose_notes_are_lost_gets_the_lock_by_looking_again(
    locks: Locks, proxy: FaultProxy, redis_url: str, server: Any
) -> None:
    with Locks.connect(redis_url, namespace="lost") as direct:
        lease = direct.mutex("m", ttl=30.0).acquire()
        got: list[float] = []

        def wait() -> None:
            with locks.mutex("m", ttl=30.0, wait=20.0):
                got.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: server.llen("backstay:lost:{m}:queue") == 1)
        proxy.drop_replies(matching=b"message", times=1, cut=False)
        released = time.monotonic()
        lease.release()
        thread.join()
        assert got[0] - released < 4.0
        with pytest.raises(NotAcquired):
            with direct.mutex("m"), direct.mutex("m", wait=0.0):
                pass
