"""The simulated world: its clock, its chance, its messages and its rules."""

from __future__ import annotations

import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from backstay.simulation.host import Host
from backstay.simulation.network import Network
from backstay.simulation.task import Deadlock, Event, Park, Task

__all__ = ["World"]

T = TypeVar("T")


class World:
    """Everything that happens in one run, decided by `seed`.

    Args:
        seed: the same seed, hosts and work give the same history.
        network: how messages fare.
        limit: steps after which a run that does not end is an error.
    """

    def __init__(self, seed: int, *, network: Network | None = None, limit: int = 1_000_000) -> None:
        self.seed, self.network, self.limit = seed, network or Network(), limit
        self.random = random.Random(seed)  # reproducible by design
        self.time = 0.0
        self.steps = 0
        self.hosts: list[Host] = []
        self.ready: list[Task[Any]] = []
        self.current: Task[Any] | None = None
        self.trace: list[tuple[float, str]] = []
        self.buried: list[Coroutine[Any, Any, Any]] = []  # closed late: clean-up of the dead must not run in the run
        self.partitions: set[frozenset[Host]] = set()
        self._started: list[Task[Any]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._invariants: list[Callable[[], None]] = []

    def host(self, name: str, *, offset: float = 0.0, rate: float = 1.0) -> Host:
        """Add a host."""
        host = Host(self, name, offset, rate)
        self.hosts.append(host)
        return host

    def invariant(self, check: Callable[[], None]) -> None:
        """Call `check` after every step; it raises where the invariant is broken."""
        self._invariants.append(check)

    def start(self, host: Host, work: Coroutine[Any, Any, T], *, name: str = "work") -> Task[T]:
        """Start work that the run waits for."""
        task = host.begin(work, name)
        self._started.append(task)
        return task

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something to the world `seconds` from now: crash, stall, part, heal."""
        self._order += 1
        heapq.heappush(self._timers, (self.time + max(0.0, seconds), self._order, action))

    def part(self, one: Host, other: Host, seconds: float) -> None:
        """Drop every message between two hosts for `seconds`."""
        pair = frozenset((one, other))
        self.partitions.add(pair)
        self.at(seconds, lambda: self.partitions.discard(pair))

    def message(self, sender: Host, to: Host, deliver: Callable[[], None]) -> None:
        """Carry one message; it may be lost, late, or delivered twice."""
        network, chance = self.network, self.random.random
        for _ in range(2 if network.duplicate and chance() < network.duplicate else 1):
            if network.loss and chance() < network.loss:
                continue
            late = network.long_delays and chance() < network.long_delays
            span = network.long_delay if late else network.delay
            self.at(self.random.uniform(*span), lambda: self._deliver(sender, to, deliver))

    def _deliver(self, sender: Host, to: Host, deliver: Callable[[], None]) -> None:
        if frozenset((sender, to)) in self.partitions:
            return
        if to.stalled_until > self.time:  # waits in the socket's buffer
            self.at(to.stalled_until - self.time, lambda: self._deliver(sender, to, deliver))
        else:
            deliver()

    async def until(self, event: Event[Any], timeout: float | None, host: Host) -> None:
        """Wait for `event`, at most `timeout` seconds of the host's clock."""
        if event.happened:
            return

        def arm(wake: Callable[[], None]) -> None:
            event.callbacks.append(wake)
            if timeout is not None:
                self.at(max(0.0, timeout) / host.rate, wake)

        await Park(arm)

    def run(self, *, until: float | None = None, settle: float = 0.0) -> None:
        """Run until all started work has ended, then `settle` seconds more; or to the time `until`.

        Raises:
            Deadlock: nothing can happen any more and started work has not ended.
            AssertionError: an invariant is broken. Any error carries the seed, time and step as a note.
        """
        try:
            stop_at = until
            while True:
                if stop_at is None and all(task.done for task in self._started):
                    stop_at = self.time + settle
                if not self._advance(stop_at):
                    break
            if until is None and not all(task.done for task in self._started):
                raise Deadlock(f"waiting for ever: {[task for task in self._started if not task.done]}")
        except BaseException as error:
            error.add_note(f"seed {self.seed}, world time {self.time:.6f} s, step {self.steps}")
            raise
        finally:
            if until is None:
                self.close()

    def _advance(self, stop_at: float | None) -> bool:
        awake = [task for task in self.ready if task.host.stalled_until <= self.time]
        if awake:
            task = awake[0] if len(awake) == 1 else self.random.choice(awake)
            self.ready.remove(task)
            self.trace.append((self.time, repr(task)))
            task.step()
        elif self._timers and (stop_at is None or self._timers[0][0] <= stop_at):
            time, _, action = heapq.heappop(self._timers)
            self.time = max(self.time, time)
            action()
        else:
            if stop_at is not None:
                self.time = max(self.time, stop_at)
            return False
        self.steps += 1
        if self.steps > self.limit:
            raise Deadlock(f"no end after {self.limit} steps")
        for check in self._invariants:
            check()
        return True

    def close(self) -> None:
        """Drop whatever still waits."""
        for host in self.hosts:
            host.crash()
        for work in self.buried:
            with contextlib.suppress(BaseException):  # the dead have nothing to say
                work.close()
        self.buried.clear()
