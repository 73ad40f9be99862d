"""Histories of a lock that does what it should: random, with late answers, waiting, lost answers, ends by time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from itertools import count

from backstay.locks.claims import MUTEX, READ, WRITE, Claim, fits, permits, stripes, weigh, whole
from backstay.testing.history import Action, Event, Phase

TTL = 3.0

KINDS: dict[str, Sequence[Claim]] = {
    "mutex": (MUTEX,),
    "read-write": (READ, READ, WRITE),
    "semaphore": (permits(1, 4), permits(1, 4), permits(2, 4), permits(3, 4)),
    "segmented": (stripes([0], 4), stripes([1, 2], 4), stripes([2, 3], 4), whole(4)),
}


class Ideal:
    """A lock in virtual time and the clients that use it; `events` is the history.

    `slow` is how long a request or an answer takes at most, beside holds of up to 1 s.
    """

    def __init__(
        self, seed: int, kind: str, *, clients: int = 4, rounds: int = 6, slow: float = 0.3, faults: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.claims, self.slow, self.faults = KINDS[kind], slow, faults
        self.events: list[Event] = []
        self.used: dict[str, int] = {}
        self.fence = 0
        self.queue: list[tuple[int, Claim, Callable[[int], None]]] = []
        self._time, self._number = 0.0, count(1)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        for number in range(clients):
            self._later(self._chance(1.0), lambda client=f"c{number}": self._acquire(client, rounds))  # type: ignore[misc]
        while self._due:
            self._time, _, step = heapq.heappop(self._due)
            step()

    def _chance(self, most: float) -> float:
        return self.random.uniform(0.0, most)

    def _later(self, delay: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._time + delay, next(self._number), step))

    def _add(self, phase: Phase, action: Action, client: str, attempt: str, claim: Claim, **fields: object) -> None:
        event = Event(
            at=self._time, phase=phase, action=action, client=client, attempt=attempt, resource="r", claim=claim,
            ttl=TTL, **fields,  # type: ignore[arg-type]
        )  # fmt: skip
        self.events.append(event)

    def _acquire(self, client: str, rounds: int) -> None:
        if not rounds:
            return
        claim, place = self.random.choice(self.claims), next(self._number)
        attempt = f"{client}.{place}"
        silent = self.faults and self.random.random() < 0.1
        waits = self._chance(2.0) if self.random.random() < 0.6 else 0.0
        self._add(Phase.INVOKE, Action.ACQUIRE, client, attempt, claim)

        def granted(fence: int) -> None:
            until = self._time + TTL
            if silent:
                self._later(self._chance(1.0), lambda: self._free(claim))  # withdrawn in the background
                self._later(self._chance(self.slow), unknown)
            else:
                self._later(self._chance(self.slow), lambda: won(fence, until))

        def won(fence: int, until: float) -> None:
            self._add(Phase.RETURN, Action.ACQUIRE, client, attempt, claim, fence=fence, until=until)
            self._hold(client, attempt, claim, until, rounds)

        def unknown() -> None:
            self._add(Phase.UNKNOWN, Action.ACQUIRE, client, attempt, claim)
            self._later(self._chance(1.0), lambda: self._acquire(client, rounds - 1))

        def give_up() -> None:
            entry = next((each for each in self.queue if each[0] == place), None)
            if entry is None:
                return
            self.queue.remove(entry)
            self._serve()
            self._later(self._chance(self.slow), unknown if silent else refused)

        def refused() -> None:
            self._add(Phase.FAIL, Action.ACQUIRE, client, attempt, claim, why="refused")
            self._later(self._chance(1.0), lambda: self._acquire(client, rounds - 1))

        def arrive() -> None:
            self.queue.append((place, claim, granted))
            self._serve()
            self._later(waits, give_up)

        self._later(self._chance(self.slow), arrive)

    def _hold(self, client: str, attempt: str, claim: Claim, until: float, rounds: int) -> None:
        hold = self._chance(1.0)
        luck = self.random.random() if self.faults else 1.0

        def then() -> None:
            self._later(self._chance(1.0), lambda: self._acquire(client, rounds - 1))

        def release() -> None:
            valid = self._time < until
            self._add(Phase.INVOKE, Action.RELEASE, client, attempt, claim, valid=valid, until=until)
            self._later(self._chance(self.slow), freed)

        def freed() -> None:
            self._free(claim)
            self._later(self._chance(self.slow), answered)

        def answered() -> None:
            phase = Phase.UNKNOWN if luck < 0.15 else Phase.RETURN
            self._add(phase, Action.RELEASE, client, attempt, claim)
            then()

        def expired() -> None:
            self._free(claim)
            self._later(self._chance(1.0), late)

        def late() -> None:
            self._add(Phase.INVOKE, Action.RELEASE, client, attempt, claim, valid=False, until=until)
            self._add(Phase.FAIL, Action.RELEASE, client, attempt, claim, why="expired")
            then()

        if luck < 0.1:
            self._later(max(0.0, until - self._time) + self._chance(0.1), expired)
        else:
            self._later(hold, release)

    def _free(self, claim: Claim) -> None:
        for unit in claim.units:
            self.used[unit.label] -= unit.weight
        self._serve()

    def _serve(self) -> None:
        """Grant from the head of the queue what fits, and what is beside everybody before it."""
        ahead = dict(self.used)
        for entry in list(self.queue):
            _, claim, granted = entry
            if fits(ahead, claim.units, claim.size):
                self.queue.remove(entry)
                weigh(self.used, claim.units)
                self.fence += self.random.randint(1, 3)
                granted(self.fence)
            weigh(ahead, claim.units)


__all__ = ["KINDS", "Ideal"]
