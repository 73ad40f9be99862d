"""The memory store and the shipped Lua are two programs for one set of rules: a history reads the same in both."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.locks.backends.redis.keys import keys_of
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, permits, stripes, whole
from stateful.locks.beside import Pair

TOKENS = [f"host-1-{'0' * 32}-{number}" for number in range(7)]  # each for one acquisition, so for one claim
TOKEN = st.sampled_from(TOKENS)
# Ends of leases fall between the steps of the clock, so that a millisecond of rounding decides nothing.
TTL = st.sampled_from([0.005, 0.095, 0.995, 7.005])
STEP = st.sampled_from([0.01, 0.1, 1.0, 4.0, 61.0])


class Beside(RuleBasedStateMachine):
    """One resource of a kind, claimed in the ways that its recipe has."""

    kind: ClassVar[str]
    claims: ClassVar[list[Claim]]

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.resource = Resource("b{c}%7D\n", self.kind)
        self.claim: dict[str, Claim] = {}

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.claim = {token: data.draw(st.sampled_from(self.claims)) for token in TOKENS}
        for token in TOKENS[:5]:
            self.pair.listen(token)

    @rule(token=TOKEN)
    def listen(self, token: str) -> None:
        self.pair.listen(token)

    @rule(token=TOKEN)
    def die(self, token: str) -> None:
        self.pair.die(token)

    @rule(seconds=STEP)
    def pass_time(self, seconds: float) -> None:
        self.pair.pass_time(seconds)

    @rule(token=TOKEN, ttl=TTL, queue=st.booleans())
    def take(self, token: str, ttl: float, queue: bool) -> None:
        self.pair.take(self.resource, token, self.claim[token], ttl, queue)

    @rule(ttl=TTL)
    def everybody_asks(self, ttl: float) -> None:
        for token in TOKENS:
            self.pair.take(self.resource, token, self.claim[token], ttl, True)

    @rule(ttl=TTL)
    def everybody_renews(self, ttl: float) -> None:
        for token in TOKENS:
            self.pair.renew(self.resource, token, self.pair.fence_of(token), ttl)

    @rule(token=TOKEN)
    def release(self, token: str) -> None:
        self.pair.release(self.resource, token, self.pair.fence_of(token))

    @rule(token=TOKEN, other=TOKEN)
    def release_with_the_fence_of_another(self, token: str, other: str) -> None:
        self.pair.release(self.resource, token, self.pair.fence_of(other))

    @rule(token=TOKEN, ttl=TTL)
    def renew(self, token: str, ttl: float) -> None:
        self.pair.renew(self.resource, token, self.pair.fence_of(token), ttl)

    @rule(token=TOKEN, in_flight=st.booleans())
    def withdraw(self, token: str, in_flight: bool) -> None:
        self.pair.withdraw(self.resource, token, in_flight)

    @invariant()
    def same_survey(self) -> None:
        self.pair.same_survey(self.resource)


class Mutex(Beside):
    """The lock's own scripts look at the silent only when they hand over, the table at every step.

    So one who was silent beyond `ALIVE` and comes back with the same token keeps its place there and queues anew here.
    Both are in order; here the silent give up, so that the two can be compared.
    """

    kind = "lock"
    claims: ClassVar = [MUTEX]

    @rule(seconds=STEP)
    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        for token, entry in list((self.pair.redis.live(keys_of("s", self.resource.name)[3]) or {}).items()):
            if int(entry.partition("|")[0]) < self.pair.now * 1e6:
                self.withdraw(token, False)


class Shared(Beside):
    less: ClassVar[Claim]

    @rule(token=TOKEN)
    def lessen(self, token: str) -> None:
        if self.claim[token] not in (READ, self.less):
            self.pair.lessen(self.resource, token, self.pair.fence_of(token), self.less)


class ReadWrite(Shared):
    kind = "read-write lock"
    claims: ClassVar = [READ, READ, WRITE]
    less = READ


class Semaphore(Shared):
    kind = "semaphore"
    claims: ClassVar = [permits(1, 4), permits(2, 4), permits(3, 4), permits(1, 0), permits(2, 5)]
    less = permits(1, 4)

    @rule(size=st.integers(1, 6))
    def resize(self, size: int) -> None:
        self.pair.resize(self.resource, size, drain=False)


class Segmented(Shared):
    kind = "segmented lock"
    claims: ClassVar = [
        stripes([0], 4),
        stripes([0, 1], 4),
        stripes([2, 1], 4),
        stripes([3], 4),
        whole(4),
        stripes([7], 8),
    ]
    less = stripes([1], 4)

    @rule(token=TOKEN)
    def lessen(self, token: str) -> None:
        if self.claim[token] == stripes([2, 1], 4):  # the one that has it to give
            super().lessen(token)

    @rule(size=st.sampled_from([4, 8]), drain=st.booleans())
    def resize(self, size: int, drain: bool) -> None:
        self.pair.resize(self.resource, size, drain)


for machine in (Mutex, ReadWrite, Semaphore, Segmented):
    machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

TestMutex, TestReadWriteLock = Mutex.TestCase, ReadWrite.TestCase
TestSemaphore, TestSegmentedLock = Semaphore.TestCase, Segmented.TestCase
