"""Threads and tasks that want one lock while its servers are broken, and the history of what they held."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backstay.clock import monotonic
from backstay.errors import NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks

REFUSALS = (NotAcquired, Unavailable, OutcomeUnknown, LockLost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One lease: when its holder was inside, by the clock that leases count with."""

    worker: str
    fence: int
    began: float
    ended: float


class History:
    """What all workers held, and how many of their attempts came to nothing."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.refused = 0
        self.errors: list[BaseException] = []
        self.stop = threading.Event()

    def since(self, moment: float, worker: str) -> int:
        """Return how often a worker was inside after that moment."""
        return sum(each.worker == worker and each.began > moment for each in tuple(self.held))

    def wait_for(self, times: int) -> None:
        """Wait until every worker was inside so often from now on."""
        moment = monotonic()
        until(lambda: all(self.since(moment, worker) >= times for worker in WORKERS))

    def check(self) -> None:
        """Check that nobody was inside together with another, and that fences rise."""
        assert not self.errors, self.errors
        inside = sorted(self.held, key=lambda each: each.began)
        for one, other in itertools.pairwise(inside):
            assert one.ended <= other.began, (one, other)
            assert one.fence < other.fence, (one, other)


def until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def working(url: str, name: str, *, ttl: float, hold: float = 0.01) -> Iterator[History]:
    """Have two threads and two tasks take the lock over and over, each with connections of its own."""
    history = History()
    threads = [threading.Thread(target=_thread, args=(url, f"thread-{n}", name, ttl, hold, history)) for n in range(2)]
    threads.append(threading.Thread(target=lambda: asyncio.run(_loop(url, name, ttl, hold, history))))
    for thread in threads:
        thread.start()
    try:
        yield history
    finally:
        history.stop.set()
        for thread in threads:
            thread.join(60.0)
    history.check()


WORKERS = ("thread-0", "thread-1", "task-0", "task-1")


def _thread(url: str, worker: str, name: str, ttl: float, hold: float, history: History) -> None:
    try:
        with Locks.connect(url, namespace="faults", answer_within=1.0) as locks:
            while not history.stop.is_set():
                try:
                    lease = locks.mutex(name, ttl=ttl, wait=5.0, raise_on_loss=False).acquire()
                except REFUSALS:
                    history.refused += 1
                    time.sleep(0.05)  # others than this worker's are tried as well
                    continue
                began = last = monotonic()
                while lease.is_valid() and last < began + hold:
                    last = monotonic()
                    time.sleep(0.001)
                history.held.append(Held(worker=worker, fence=lease.fence, began=began, ended=last))
                try:
                    lease.release()
                except REFUSALS:
                    history.refused += 1
    except BaseException as error:
        history.errors.append(error)


async def _loop(url: str, name: str, ttl: float, hold: float, history: History) -> None:
    async def work(worker: str, locks: AsyncLocks) -> None:
        while not history.stop.is_set():
            try:
                lease = await locks.mutex(name, ttl=ttl, wait=5.0, raise_on_loss=False).acquire()
            except REFUSALS:
                history.refused += 1
                await asyncio.sleep(0.05)
                continue
            began = last = monotonic()
            while lease.is_valid() and last < began + hold:
                last = monotonic()
                await asyncio.sleep(0.001)
            history.held.append(Held(worker=worker, fence=lease.fence, began=began, ended=last))
            try:
                await lease.release()
            except REFUSALS:
                history.refused += 1

    try:
        async with AsyncLocks.connect(url, namespace="faults", answer_within=1.0) as locks:
            await asyncio.gather(*(work(f"task-{number}", locks) for number in range(2)))
    except BaseException as error:
        history.errors.append(error)
