"""A process with threads and tasks that take all kinds of locks, write to a guarded resource, and note what they saw.

    python -m soak.locks.worker '{"name": "w0", "url": ..., ...}'

It works until SIGTERM, gives everything back, and prints one line of JSON: how much it did and what is left of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from inspect import isawaitable
from pathlib import Path
from typing import Any

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.errors import NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, permits, stripes, whole
from backstay.locks.guards import StaleFence
from backstay.locks.guards.redis import FencedKeys
from backstay.testing.history import Attempt, Client, History

RECIPES = ("mutex", "reentrant", "read-write", "semaphore", "segmented")
PERMITS, SEGMENTS = 3, 4
THREADS, TASKS = 2, 2
TTL = 1.0
UNANSWERED = (Unavailable, OutcomeUnknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is to do."""

    name: str
    url: str
    namespace: str
    guard: str
    history: str
    writes: str
    seed: int
    recipes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write to the guarded resource; `began` and `ended` surround it."""

    resource: str
    fence: int
    client: str
    began: float
    ended: float
    accepted: bool


class Hands:
    """One way to call things: here, a thread that blocks."""

    async def do(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return method(*arguments)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AsyncHands(Hands):
    """And here a task that awaits."""

    async def do(self, method: Callable[..., Any], *arguments: Any) -> Any:
        outcome = method(*arguments)
        return await outcome if isawaitable(outcome) else outcome

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Work:
    """What one thread or task does, over and over."""

    def __init__(self, orders: Orders, me: Client, locks: Any, hands: Hands, guard: FencedKeys, writes: int) -> None:
        self.me, self.locks, self.hands, self.guard, self.writes = me, locks, hands, guard, writes
        self.recipes = orders.recipes
        self.random = random.Random(f"{orders.seed}/{me.name}")

    async def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            recipe = self.random.choice(self.recipes)
            await self.once(recipe, f"{recipe}-{self.random.randrange(2)}")
            await self.hands.sleep(self.random.uniform(0.0, 0.01))

    def section(self, recipe: str, name: str) -> tuple[Callable[[], Any], Claim]:
        """Return what acquires, and what that claims."""
        chance = self.random
        terms: dict[str, Any] = {
            "ttl": TTL,
            "wait": chance.choice((0.0, 0.2, 1.0, 3.0)),
            "renew": chance.random() > 0.05,
            "raise_on_loss": False,
        }
        if recipe == "read-write":
            lock = self.locks.read_write(name, **terms)
            return (lock.write().acquire, WRITE) if chance.random() < 0.4 else (lock.read().acquire, READ)
        if recipe == "semaphore":
            count = chance.choice((1, 1, 2))
            semaphore = self.locks.semaphore(name, permits=PERMITS, **terms)
            return (lambda: semaphore.acquire(count)), permits(count, PERMITS)
        if recipe == "segmented":
            lock = self.locks.segmented(name, segments=SEGMENTS, **terms)
            if chance.random() < 0.1:
                return lock.whole().acquire, whole(SEGMENTS)
            keys = chance.sample(("a", "b", "c", "d", "e"), chance.choice((1, 1, 2)))
            return lock.lock(*keys).acquire, stripes({lock.stripe(key) for key in keys}, SEGMENTS)
        return self.locks.mutex(name, reentrant=recipe == "reentrant", **terms).acquire, MUTEX

    async def once(self, recipe: str, name: str) -> None:
        """Acquire, work, give back; every honest failure is an outcome."""
        acquire, claim = self.section(recipe, name)
        try:
            with self.me.acquiring(f"{recipe} {name}", claim, ttl=TTL) as attempt:
                lease = attempt.won(await self.hands.do(acquire))
        except (NotAcquired, *UNANSWERED):
            return
        except LockLost:  # a reentrant lock of which an earlier lease, whose release had no answer, was not left yet
            gc.collect()
            return
        await self.hold(attempt, lease, alone=claim in (MUTEX, WRITE, whole(SEGMENTS)))
        if recipe == "reentrant":
            await self.again(attempt, name)
        if claim == WRITE and self.random.random() < 0.3:
            try:
                with attempt.lessening(READ):
                    await self.hands.do(lease.downgrade)
            except (LockLost, *UNANSWERED):
                await self.hands.sleep(0.001)
        await self.give_back(attempt, lease)

    async def hold(self, attempt: Attempt, lease: Any, *, alone: bool) -> None:
        """Look, write, rest; now and then for longer than the time-to-live."""
        turns = self.random.choice((1, 1, 2, 4))
        if self.random.random() < 0.01:
            turns = int(TTL * 150)
        for _ in range(turns):
            if not attempt.look():
                return
            if alone:
                self.write(lease)
            await self.hands.sleep(self.random.uniform(0.0, 0.012))

    def write(self, lease: Any) -> None:
        """Write to the resource, which compares the fence; a process may be stopped just before."""
        began, accepted = monotonic(), True
        try:
            self.guard.set(lease, "state", self.me.name)
        except StaleFence:
            accepted = False
        except UNANSWERED:
            return
        write = Write(
            resource=lease.name, fence=lease.fence, client=self.me.name,
            began=began, ended=monotonic(), accepted=accepted,
        )  # fmt: skip
        os.write(self.writes, json.dumps(asdict(write)).encode() + b"\n")

    async def again(self, outer: Attempt, name: str) -> None:
        """Enter again what is held."""
        try:
            with self.me.acquiring(f"reentrant {name}", MUTEX, ttl=TTL) as attempt:
                inner = attempt.won(await self.hands.do(self.locks.mutex(name, reentrant=True, wait=0.0).acquire))
        except (NotAcquired, LockLost, *UNANSWERED):
            return
        outer.look()
        await self.give_back(attempt, inner)

    async def give_back(self, attempt: Attempt, lease: Any) -> None:
        """Release; without an answer, ask again some times."""
        for _ in range(4):
            try:
                with attempt.releasing():
                    await self.hands.do(lease.release)
                return
            except LockLost:
                return
            except UNANSWERED:
                await self.hands.sleep(0.2)


def main(orders: Orders) -> dict[str, Any]:
    """Work until SIGTERM."""
    logging.disable(logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    history = History(orders.history)
    writes = os.open(orders.writes, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    errors: list[str] = []
    before = {thread.name for thread in threading.enumerate()}

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(repr(error))
            raise

    locks = Locks.connect(orders.url, namespace=orders.namespace, answer_within=0.5)
    guard = FencedKeys.connect(orders.guard, namespace="soak")

    def in_thread(number: int) -> None:
        me = history.client(f"{orders.name}.thread-{number}")
        drive(Work(orders, me, locks, Hands(), guard, writes).run(stop))

    async def in_tasks() -> None:
        async with AsyncLocks.connect(orders.url, namespace=orders.namespace, answer_within=0.5) as own:
            clients = [history.client(f"{orders.name}.task-{number}") for number in range(TASKS)]
            await asyncio.gather(*(Work(orders, me, own, AsyncHands(), guard, writes).run(stop) for me in clients))

    threads = [threading.Thread(target=guarded, args=(lambda n=n: in_thread(n),)) for n in range(THREADS)]
    threads.append(threading.Thread(target=guarded, args=(lambda: asyncio.run(in_tasks()),)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    locks.close()
    guard.close()
    gc.collect()
    until = monotonic() + 5.0  # a pool's threads end when they have seen that it is over
    while monotonic() < until and {thread.name for thread in threading.enumerate()} - before - {
        "backstay-locks-keeper"
    }:
        time.sleep(0.05)
    left = sorted({thread.name for thread in threading.enumerate()} - before)
    return {"errors": errors, "threads": left}


def clients(name: str) -> list[str]:
    """Return the names of a worker's clients."""
    return [f"{name}.thread-{n}" for n in range(THREADS)] + [f"{name}.task-{n}" for n in range(TASKS)]


def written(path: Path) -> list[Write]:
    """Return all writes to the guarded resource that were answered."""
    if not path.exists():
        return []
    return [Write(**json.loads(line)) for line in path.read_text().split("\n")[:-1]]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(main(Orders(**{**given, "recipes": tuple(given["recipes"])}))), flush=True)
