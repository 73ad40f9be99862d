"""Pains on Redis: redis-py's Lock (sync and asyncio) and python-redis-lock."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
import redis.asyncio
import redis_lock  # type: ignore[import-not-found, import-untyped, unused-ignore]  # python-redis-lock ships no types
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.errors import BackstayError, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.testing.proxy import FaultProxy
from backstay.url import parse

from .trial import Pain, Shown

NEVER = Retry(NoBackoff(), 0)


def pains(url: str) -> Iterator[Pain]:
    """All that need a Redis at `url`."""
    on = _On(url)
    yield Pain(number=1, what="lost lock, holder never told", peer="redis", theirs=on.untold, ours=on.told)
    yield Pain(
        number=2, what="renewal stops for good after one error", peer="python-redis-lock",
        theirs=on.renewal_stops, ours=on.renewal_goes_on,
    )  # fmt: skip
    yield Pain(
        number=5,
        what="a forked child frees its parent's lock",
        peer="redis",
        theirs=on.fork_frees,
        ours=on.fork_disowns,
    )
    yield Pain(
        number=6, what="an error at release leaves a lock nobody can free", peer="redis",
        theirs=on.release_forgets, ours=on.release_again,
    )  # fmt: skip
    yield Pain(
        number=7, what="one asyncio task frees another's lock", peer="redis", theirs=on.tasks_share, ours=on.tasks_own
    )
    yield Pain(number=13, what="polling: slow hand-over (p50 > 5 ms)", peer="redis", theirs=on.polled, ours=on.handed)
    yield Pain(number=14, what="no expiry by default", peer="redis", theirs=on.no_end, ours=on.an_end)
    yield Pain(number=20, what="extend adds, so a heartbeat piles up", peer="redis", theirs=on.added, ours=on.set_to)


class _On:
    """The trials, on one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.server: Any = redis.Redis.from_url(url)

    def proxy(self) -> FaultProxy:
        there = parse(self.url)
        return FaultProxy(there.host, there.port or 6379)

    # 1: the key goes away under the holder (a failover, a flush, somebody's DEL)

    def untold(self) -> Shown:
        lock = self.server.lock("pain:1", timeout=1.0)
        lock.acquire()
        self.server.delete("pain:1")
        time.sleep(1.2)
        signals = [name for name in ("lost", "on_lost", "lost_event", "callback") if hasattr(lock, name)]
        tells = bool(signals) or not lock.local.token
        lock.local.token = None
        return Shown(fault=not tells, seen="it still has its token and offers no signal, only owned() to poll")

    def told(self) -> Shown:
        with Locks.connect(self.url, namespace="pains") as locks:
            lease = locks.mutex("1", ttl=1.0).acquire()
            self.server.delete("backstay:pains:{1}:owner")
            told = lease.lost.wait(1.2)
            return Shown(fault=not told or lease.is_valid(), seen="told within a ttl" if told else "not told")

    # 2: one connection error while it is renewed

    def renewal_stops(self) -> Shown:
        with self.proxy() as proxy:
            client = redis.Redis.from_url(proxy.url(self.url), retry=NEVER, socket_timeout=0.5)
            lock = redis_lock.Lock(client, "pain:2", expire=2, auto_renewal=True)
            ended, hook = threading.Event(), threading.excepthook
            threading.excepthook = lambda args: ended.set()  # its thread dies with a traceback
            try:
                lock.acquire(blocking=False)
                proxy.refuse()
                proxy.cut()
                time.sleep(1.6)
                proxy.heal()
                time.sleep(2.0)
                alive = bool(self.server.exists("lock:pain:2"))
            finally:
                threading.excepthook = hook
            self.server.delete("lock:pain:2")
            return Shown(fault=not alive, seen="still held" if alive else "gone, its thread ended at the first error")

    def renewal_goes_on(self) -> Shown:
        with self.proxy() as proxy, Locks.connect(proxy.url(self.url), namespace="pains", answer_within=0.5) as locks:
            lease = locks.mutex("2", ttl=2.0).acquire()
            proxy.refuse()
            proxy.cut()
            time.sleep(1.6)
            proxy.heal()
            time.sleep(2.0)
            alive = lease.is_valid() and bool(self.server.exists("backstay:pains:{2}:owner"))
            if alive:
                lease.release()
            return Shown(fault=not alive, seen="renewed again, still valid" if alive else "lost")

    # 5: a fork while the lock is held

    def fork_frees(self) -> Shown:
        lock = redis.Redis.from_url(self.url).lock("pain:5", timeout=30.0)
        lock.acquire()
        _in_child(lock.release)
        left = bool(self.server.exists("pain:5"))
        self.server.delete("pain:5")
        return Shown(fault=not left, seen="still held" if left else "the child's release freed it")

    def fork_disowns(self) -> Shown:
        with Locks.connect(self.url, namespace="pains") as locks:
            lease = locks.mutex("5", ttl=30.0).acquire()
            _in_child(lease.release)
            left = bool(self.server.exists("backstay:pains:{5}:owner"))
            valid = lease.is_valid()
            lease.release()
            return Shown(fault=not (left and valid), seen="the child was refused, the parent holds it")

    # 6: the connection breaks as the lock is released

    def release_forgets(self) -> Shown:
        with self.proxy() as proxy:
            client = redis.Redis.from_url(proxy.url(self.url), retry=NEVER, socket_timeout=0.5)
            lock = client.lock("pain:6", timeout=30.0)
            lock.acquire()
            proxy.refuse()
            proxy.cut()
            first = _error(lock.release)
            proxy.heal()
            second = _error(lock.release)
            left = bool(self.server.exists("pain:6"))
            self.server.delete("pain:6")
            return Shown(fault=left, seen=f"{first}; again: {second}; " + ("still locked" if left else "free"))

    def release_again(self) -> Shown:
        with self.proxy() as proxy, Locks.connect(proxy.url(self.url), namespace="pains", answer_within=0.5) as locks:
            lease = locks.mutex("6", ttl=30.0).acquire()
            proxy.refuse()
            proxy.cut()
            first = _error(lease.release)
            proxy.heal()
            second = _error(lease.release)
            left = bool(self.server.exists("backstay:pains:{6}:owner"))
            return Shown(fault=left, seen=f"{first}; again: {second}; " + ("still locked" if left else "free"))

    # 7: A's lease ends while it works, B acquires, A releases

    def tasks_share(self) -> Shown:
        async def main() -> bool:
            async with redis.asyncio.Redis.from_url(self.url) as client:
                lock = client.lock("pain:7", timeout=0.3)
                await lock.acquire()
                await asyncio.sleep(0.4)
                second = asyncio.Event()

                async def other() -> None:
                    await lock.acquire()
                    await lock.extend(30.0, replace_ttl=True)
                    second.set()

                await asyncio.create_task(other())
                await second.wait()
                try:
                    await lock.release()
                except redis.exceptions.LockError:
                    return False
                return not await client.exists("pain:7")

        freed = asyncio.run(main())
        self.server.delete("pain:7")
        return Shown(fault=freed, seen="A's release freed B's lock" if freed else "refused")

    def tasks_own(self) -> Shown:
        async def main() -> bool:
            async with AsyncLocks.connect(self.url, namespace="pains") as locks:
                lock = locks.mutex("7", ttl=0.3, renew=False)
                first = await lock.acquire()
                await asyncio.sleep(0.4)
                second = await lock.acquire()
                try:
                    await first.release()
                except LockLost:
                    await second.extend(30.0)
                    await second.release()
                    return False
                return True

        freed = asyncio.run(main())
        return Shown(fault=freed, seen="A is told that its lease was lost, B holds on")

    # 13: how long a free lock stays idle while somebody waits

    def polled(self) -> Shown:
        return _hand_over(lambda: redis.Redis.from_url(self.url).lock("pain:13", timeout=30.0))

    def handed(self) -> Shown:
        with Locks.connect(self.url, namespace="pains") as locks:
            return _hand_over(lambda: _Mutex(locks))

    # 14: what stays when the holder dies

    def no_end(self) -> Shown:
        lock = self.server.lock("pain:14")
        lock.acquire()
        ends = int(self.server.pttl("pain:14"))
        lock.release()
        return Shown(fault=ends < 0, seen="no expiry: a dead holder keeps it" if ends < 0 else f"{ends} ms")

    def an_end(self) -> Shown:
        with Locks.connect(self.url, namespace="pains") as locks, locks.mutex("14"):
            ends = int(self.server.pttl("backstay:pains:{14}:owner"))
        return Shown(fault=ends < 0, seen=f"ends {ends / 1000:.0f} s after its last renewal")

    # 20: a heartbeat that extends by the ttl, ten times

    def added(self) -> Shown:
        lock = self.server.lock("pain:20", timeout=10.0)
        lock.acquire()
        for _ in range(10):
            lock.extend(10.0)
        ends = self.server.pttl("pain:20") / 1000
        lock.release()
        return Shown(fault=ends > 20.0, seen=f"ends in {ends:.0f} s after ten extensions by 10 s")

    def set_to(self) -> Shown:
        with Locks.connect(self.url, namespace="pains") as locks, locks.mutex("20", ttl=10.0) as lease:
            for _ in range(10):
                lease.extend(10.0)
            ends = self.server.pttl("backstay:pains:{20}:owner") / 1000
        return Shown(fault=ends > 20.0, seen=f"ends in {ends:.0f} s after ten extensions to 10 s")


class _Mutex:
    """Our mutex with the peer's two calls."""

    def __init__(self, locks: Locks) -> None:
        self._mutex = locks.mutex("13", ttl=30.0, wait=30.0)
        self._lease: Any = None

    def acquire(self) -> None:
        self._lease = self._mutex.acquire()

    def release(self) -> None:
        self._lease.release()


def _hand_over(make: Callable[[], Any], rounds: int = 30) -> Shown:
    """Return the median time from a release to the waiting thread's grant."""
    took: list[float] = []
    for _ in range(rounds):
        holder, waiter, got = make(), make(), [0.0]
        holder.acquire()

        def wait(waiter: Any = waiter, got: list[float] = got) -> None:
            waiter.acquire()
            got[0] = time.perf_counter()
            waiter.release()

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.03)
        released = time.perf_counter()
        holder.release()
        thread.join()
        took.append(max(0.0, got[0] - released))
    median = statistics.median(took) * 1000
    return Shown(fault=median > 5.0, seen=f"p50 {median:.1f} ms")


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except (redis.exceptions.RedisError, BackstayError, Unavailable, OutcomeUnknown) as error:
        return type(error).__name__
    return "done"


def _in_child(call: Callable[[], object]) -> None:
    """Run `call` in a forked child, whatever comes of it."""
    pid = os.fork()
    if pid == 0:
        try:
            call()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
