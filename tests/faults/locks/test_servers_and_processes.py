"""Servers and processes that are killed, stopped and emptied while locks are held and waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import redis

from backstay.errors import BackstayError, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks

ROOT = Path(__file__).parents[3]


def until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


class Child:
    """A process of its own with locks; it prints a line for each thing that happened to it."""

    def __init__(self, url: str, body: str) -> None:
        head = "import sys, time\nfrom backstay.locks import Locks, LockLost\n"
        head += "from backstay.clock import monotonic\nlocks = Locks.connect(sys.argv[1], namespace='faults')\n"
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", head + textwrap.dedent(body), url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        return out.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def child(redis_url: str) -> Iterator[Callable[[str], Child]]:
    children: list[Child] = []

    def start(body: str) -> Child:
        children.append(Child(redis_url, body))
        return children[-1]

    yield start
    for each in children:
        each.end()


@pytest.fixture
def locks(redis_url: str) -> Iterator[Locks]:
    with Locks.connect(redis_url, namespace="faults") as locks:
        yield locks


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


HOLD = """
    lease = locks.mutex("x", ttl={ttl}).acquire()
    print(lease.fence)
    time.sleep(60)
"""


def test_W2_a_killed_holder_costs_its_ttl(child: Callable[[str], Child], locks: Locks) -> None:
    holder = child(HOLD.format(ttl=1.5))
    fence = int(holder.line())
    with pytest.raises(NotAcquired):
        locks.mutex("x", wait=2.5).acquire()  # it is renewed beyond its ttl
    holder.signal(signal.SIGKILL)
    start = time.monotonic()
    with locks.mutex("x", wait=10.0) as lease:
        assert time.monotonic() - start < 1.5 + 1.0
        assert lease.fence > fence


def test_C3_F1_a_stopped_holder_wakes_up_to_find_its_lease_over(child: Callable[[str], Child], locks: Locks) -> None:
    holder = child("""
        lease = locks.mutex("x", ttl=1.0).acquire()
        print(lease.fence)
        time.sleep(0.2)
        while lease.is_valid():
            time.sleep(0.005)
        try:
            lease.check()
        except LockLost as lost:
            print("lost", lost.fence)
        try:
            lease.release()
        except LockLost:
            print("release refused")
    """)
    fence = int(holder.line())
    holder.signal(signal.SIGSTOP)
    with locks.mutex("x", ttl=30.0, wait=10.0) as lease:
        assert lease.fence > fence, "the resource can tell the late write of the stopped holder"
        holder.signal(signal.SIGCONT)
        assert holder.line() == f"lost {fence}"
        assert holder.line() == "release refused"
        lease.check()
        with pytest.raises(NotAcquired):
            locks.mutex("x", wait=0.0).acquire()


def queued(server: Any, number: int) -> Callable[[], bool]:
    return lambda: server.llen("backstay:faults:{x}:queue") == number


def mailboxes(server: Any) -> list[Any]:
    return list(server.pubsub_channels("backstay:faults:mail:*"))


WAIT = """
    print("waiting")
    with locks.mutex("x", ttl={ttl}, wait=60) as lease:
        print(lease.fence)
"""


def test_Q2_killed_waiters_at_the_head_cost_nothing(child: Callable[[str], Child], locks: Locks, server: Any) -> None:
    with locks.mutex("x", ttl=30.0):
        waiters = []
        for number in range(3):
            waiters.append(child(WAIT.format(ttl=30)))
            until(queued(server, number + 1))
        living = child(WAIT.format(ttl=30))
        assert living.line() == "waiting"
        until(lambda: server.llen("backstay:faults:{x}:queue") == 4)
        for waiter in waiters:
            waiter.signal(signal.SIGKILL)
            waiter.process.wait()
        until(lambda: len(mailboxes(server)) == 1)
        released = time.monotonic()
    assert int(living.line()) > 0
    assert time.monotonic() - released < 1.0


def test_Q3_stopped_waiters_cost_one_bound_together(child: Callable[[str], Child], locks: Locks, server: Any) -> None:
    with locks.mutex("x", ttl=30.0):
        waiters = []
        for number in range(3):
            waiters.append(child(WAIT.format(ttl=1.5)))
            until(queued(server, number + 1))
        living = child(WAIT.format(ttl=30))
        until(lambda: server.llen("backstay:faults:{x}:queue") == 4)
        for waiter in waiters:
            waiter.signal(signal.SIGSTOP)
        released = time.monotonic()
    assert living.line() == "waiting"
    assert int(living.line()) > 0
    assert time.monotonic() - released < 5.0 + 1.5 + 1.5, "the time for which waiters count as alive, and one ttl"


def test_a_flush_is_a_loss_that_is_told_and_fences_still_rise(locks: Locks, server: Any) -> None:
    lease = locks.mutex("x", ttl=1.5).acquire()
    server.flushdb()
    assert lease.lost.wait(5.0)
    with pytest.raises(LockLost) as lost:
        lease.release()
    assert lost.value.reason == "taken"
    with locks.mutex("x", wait=0.0) as later:
        assert later.fence > lease.fence


def test_a_flush_under_a_waiter_gives_it_the_lock_at_its_next_look(locks: Locks, server: Any) -> None:
    lease = locks.mutex("x", ttl=30.0, raise_on_loss=False).acquire()
    got: list[int] = []

    def wait() -> None:
        with locks.mutex("x", wait=30.0) as mine:
            got.append(mine.fence)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: server.llen("backstay:faults:{x}:queue") == 1)
    server.flushdb()
    thread.join(timeout=5.0)
    assert got
    assert got[0] > lease.fence
    with pytest.raises(LockLost):
        lease.release()


def test_a_killed_and_restarted_server(own_redis: Callable[[], Any]) -> None:
    server = own_redis()
    with Locks.connect(server.url, namespace="faults", answer_within=0.5) as locks:
        lease = locks.mutex("x", ttl=2.0).acquire()
        server.kill()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            locks.mutex("y", wait=0.3).acquire()
        assert lease.lost.wait(5.0), "no renewal is answered: the holder is told in time"
        assert not lease.is_valid()
        got: list[bool] = []

        def wait() -> None:
            with locks.mutex("z", wait=30.0) as mine:
                got.append(mine.is_valid())

        thread = threading.Thread(target=wait)
        thread.start()
        server.start()
        thread.join(timeout=30.0)
        assert got == [True], "an acquire that began while the server was down succeeds when it is back"
        with locks.mutex("x", wait=10.0) as later:
            assert later.fence > lease.fence


def test_a_frozen_server(own_redis: Callable[[], Any]) -> None:
    server = own_redis()
    with Locks.connect(server.url, namespace="faults", answer_within=0.5) as locks:
        lease = locks.mutex("x", ttl=2.0).acquire()
        server.pause()
        start = time.monotonic()
        for wait in (0.0, 0.2, 0.8):
            with pytest.raises((Unavailable, OutcomeUnknown)):
                locks.mutex("y", ttl=60.0, wait=wait).acquire()
        assert time.monotonic() - start < 3.0
        assert lease.lost.wait(5.0)
        server.unpause()
        with locks.mutex("y", wait=10.0) as later:  # the requests that froze on their way were withdrawn
            later.check()
        with locks.mutex("x", wait=10.0) as later:
            assert later.fence > lease.fence


def test_a_frozen_server_does_not_stop_the_event_loop(own_redis: Callable[[], Any]) -> None:
    server = own_redis()

    async def main() -> float:
        async with AsyncLocks.connect(server.url, namespace="faults", answer_within=0.5) as locks:
            lease = await locks.mutex("x", ttl=1.5).acquire()
            await asyncio.to_thread(server.pause)
            gap, last = 0.0, time.monotonic()
            lost = asyncio.ensure_future(lease.lost.wait(5.0))
            tries = [asyncio.create_task(locks.mutex("y", wait=0.5).acquire()) for _ in range(20)]
            while not lost.done():
                await asyncio.sleep(0.005)
                gap, last = max(gap, time.monotonic() - last), time.monotonic()
            assert lost.result() is True
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert all(isinstance(outcome, BackstayError) for outcome in outcomes)
            await asyncio.to_thread(server.unpause)
            async with locks.mutex("y", wait=10.0) as later:
                later.check()
            return gap

    assert asyncio.run(main()) < 0.25
