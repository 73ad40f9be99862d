"""Workers, a network and a server, and what is done to them; all of it by one seed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.locks import Locks
from backstay.testing.history import Action, History, Phase, read
from backstay.testing.linearizability import Verdict, check
from backstay.testing.proxy import FaultProxy
from backstay.url import parse
from soak.locks.worker import RECIPES, TTL, Orders, Write, clients, written

ROOT = Path(__file__).parents[3]
PORTS = {"redis": 6379, "zookeeper": 2181, "postgresql": 5432, "mysql": 3306, "mariadb": 3306}


class Server(Protocol):
    """A server of ours, that may be broken."""

    def kill(self) -> None: ...
    def start(self) -> None: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...


class Worker:
    """One process of workers."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "soak.locks.worker", json.dumps(asdict(orders))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/tests{os.pathsep}{ROOT}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.line() != "ready":
            self.kill()
            raise RuntimeError(f"{orders.name} did not start: its error is above")

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> dict[str, Any]:
        """Let it finish what it does, and return what it says of itself."""
        self.process.send_signal(signal.SIGTERM)
        said = self.line()
        code = self.process.wait(timeout=60.0)
        assert code == 0, f"{self.orders.name} ended with {code}: {said}"
        found: dict[str, Any] = json.loads(said)
        return found

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Storm:
    """A run: workers on one store, faults at random, and the judgement.

    Args:
        url: the store.
        guard: a Redis for the guarded resource, which nothing is done to.
        folder: where the history goes.
        seed: what everything random follows from, as far as the machine allows.
        server: the store's server, where it may be broken.
        recipes: what is used.
        processes: how many there are; 1 for a store of one process.
    """

    def __init__(
        self,
        url: str,
        guard: str,
        folder: Path,
        seed: int,
        *,
        server: Server | None = None,
        recipes: Sequence[str] = RECIPES,
        processes: int = 3,
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.url, self.server, self.folder, self.recipes = seed, url, server, folder, tuple(recipes)
        self.guard, self.alone = guard, processes == 1
        self.history = History(folder / "history.jsonl")
        scheme = url.partition(":")[0].partition("+")[0]
        self.proxy: FaultProxy | None = None
        if scheme in PORTS:
            there = parse(url)
            self.proxy = FaultProxy(there.host, there.port or PORTS[scheme])
        self.number = 0
        self.faults: list[str] = []
        self.workers = [self._worker() for _ in range(processes)]

    def _worker(self) -> Worker:
        self.number += 1
        return Worker(
            Orders(
                name=f"w{self.number}",
                url=self.url if self.proxy is None else self.proxy.url(self.url),
                namespace="soak",
                guard=self.guard,
                history=str(self.folder / "history.jsonl"),
                writes=str(self.folder / "writes.jsonl"),
                seed=self.seed,
                recipes=self.recipes,
            )
        )

    def asked(self) -> dict[str, int]:
        """Return how often each recipe was asked for so far."""
        of = dict.fromkeys(self.recipes, 0)
        for event in read(self.folder / "history.jsonl"):
            if event.phase is Phase.INVOKE and event.action is Action.ACQUIRE:
                of[event.resource.partition(" ")[0]] += 1
        return of

    def run(self, seconds: float, operations: int = 0) -> None:
        """Break things for so long, and until so many operations of each recipe were begun."""
        until = monotonic() + seconds
        faults = self._faults()
        while monotonic() < until or (operations and min(self.asked().values()) < operations):
            fault = self.random.choice(faults)
            self.faults.append(fault.__name__)
            fault()
            time.sleep(self.random.uniform(0.0, 0.3) if not operations else self.random.uniform(0.2, 2.0))

    def _faults(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = [self.stop_worker]
        if not self.alone:
            found.append(self.kill_worker)
        if self.proxy is not None:
            found += [self.cut, self.slow, self.lose_answers, self.lose_requests, self.silence, self.refuse]
        if self.server is not None:
            found += [self.restart, self.freeze]
        return found

    # -- the faults

    def stop_worker(self) -> None:
        worker = self.random.choice(self.workers)
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.1, 1.6 * TTL))
        worker.process.send_signal(signal.SIGCONT)

    def kill_worker(self) -> None:
        place = self.random.randrange(len(self.workers))
        worker = self.workers[place]
        worker.kill()
        for client in clients(worker.orders.name):
            self.history.died(client)
        self.workers[place] = self._worker()

    def cut(self) -> None:
        self._proxy.cut()

    def slow(self) -> None:
        self._for_a_while(lambda: self._proxy.delay(requests=self._chance(0.1), replies=self._chance(0.1)))

    def lose_answers(self) -> None:
        times, cut = self.random.randint(1, 4), self.random.random() < 0.5
        self._for_a_while(lambda: self._proxy.drop_replies(times=times, cut=cut))

    def lose_requests(self) -> None:
        times, cut = self.random.randint(1, 4), self.random.random() < 0.5
        self._for_a_while(lambda: self._proxy.drop_requests(times=times, cut=cut))

    def silence(self) -> None:
        self._for_a_while(self._proxy.half_open, 1.6 * TTL)

    def refuse(self) -> None:
        self._proxy.refuse()
        self._for_a_while(self._proxy.cut)

    def restart(self) -> None:
        assert self.server is not None
        self.server.kill()
        time.sleep(self._chance(0.5))
        self.server.start()

    def freeze(self) -> None:
        assert self.server is not None
        self.server.pause()
        time.sleep(self._chance(1.6 * TTL))
        self.server.unpause()

    @property
    def _proxy(self) -> FaultProxy:
        assert self.proxy is not None
        return self.proxy

    def _chance(self, most: float) -> float:
        return self.random.uniform(0.0, most)

    def _for_a_while(self, fault: Callable[[], object], most: float = 0.5) -> None:
        fault()
        time.sleep(self._chance(most))
        self._proxy.heal()

    # -- the judgement

    def judge(self, settle: float, calm: float) -> Verdict:
        """Let all workers go on for a while without faults, end them, and judge all that happened.

        Args:
            settle: seconds after which what was lost on its way has been withdrawn or is over.
            calm: seconds after that.
        """
        time.sleep(settle)
        settled = monotonic()
        time.sleep(calm)
        for worker in self.workers:
            said = worker.end()
            assert said["errors"] == [], f"{worker.orders.name}: {said['errors']}"
            assert set(said["threads"]) <= {"backstay-locks-keeper"}, said["threads"]
        self._nothing_left()
        events = read(self.folder / "history.jsonl")
        # On ZooKeeper a fence is the place in the queue: those whom it does not exclude may be let in before.
        verdict = check(events, total_fences=not self.url.startswith("zookeeper"))
        # A refusal may be false for a while after its withdrawal was not answered: without faults it must be true.
        calmly = {event.attempt for event in events if event.phase is Phase.INVOKE and event.at > settled}
        hard = [each for each in verdict.violations if each.what != "refusal" or _attempt(each.who) in calmly]
        assert hard == [], f"SEED={self.seed}: {verdict}"
        answered = {event.attempt for event in events if event.action is Action.ACQUIRE and event.phase is Phase.RETURN}
        assert len(answered & calmly) > 0, "nobody got a lock after the faults"
        check_writes(written(self.folder / "writes.jsonl"))
        return verdict

    def _nothing_left(self) -> None:
        """Ask the store itself: nobody holds or waits."""
        with Locks.connect(self.url, namespace="soak") as locks:
            backend, end = locks._protocol.backend, monotonic() + 15.0
            held = drive(backend.resources(100, 5.0))
            while held and monotonic() < end:
                time.sleep(0.2)
                held = drive(backend.resources(100, 5.0))
            surveys = [(resource, drive(backend.inspect(resource, 5.0))) for resource in held]
            assert surveys == [], f"SEED={self.seed}: left behind: {surveys}"

    def close(self) -> None:
        for worker in self.workers:
            worker.process.send_signal(signal.SIGCONT)
            worker.kill()
        if self.proxy is not None:
            self.proxy.close()
        self.history.close()


def _attempt(who: str) -> str:
    return who.partition("(")[2].partition(",")[0]


def check_writes(writes: Sequence[Write]) -> None:
    """Check the guarded resource: after a write with a fence, none with a lower one was accepted."""
    highest: dict[str, Write] = {}
    ends = sorted(writes, key=lambda write: write.ended)
    begins = sorted(writes, key=lambda write: write.began)
    place = 0
    for write in begins:
        while place < len(ends) and ends[place].ended < write.began:
            done = ends[place]
            if done.accepted and done.fence > getattr(highest.get(done.resource), "fence", 0):
                highest[done.resource] = done
            place += 1
        before = highest.get(write.resource)
        if write.accepted and before is not None:
            assert write.fence >= before.fence, f"a late write was accepted: {write} after {before}"
            assert write.fence != before.fence or write.client == before.client, f"two of one fence: {write}, {before}"
