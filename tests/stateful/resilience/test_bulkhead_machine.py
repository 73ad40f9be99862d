"""The permits of a bulkhead against a model, and under threads and loops that come, wait and go as they like."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backstay.errors import BulkheadFull
from backstay.resilience.bulkhead import Bulkhead, BulkheadSettings
from backstay.resilience.bulkhead.permits import Permits
from backstay.testing import measured


class Somebody:
    """A waiter that notes its grant; `gone` stands for one whose loop was closed."""

    def __init__(self) -> None:
        self.granted = False
        self.gone = False

    def grant(self) -> bool:
        assert not self.granted
        self.granted = not self.gone
        return self.granted


class PermitsMachine(RuleBasedStateMachine):
    """The model: a count and a list. A permit that is free while somebody waits is served at once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 2
        self.permits = Permits(self.limit)
        self.in_use = 0
        self.line: list[Somebody] = []
        self.served: list[Somebody] = []

    def serve(self) -> None:
        while self.line and self.in_use < self.limit:
            first = self.line.pop(0)
            if not first.gone:
                self.in_use += 1
                self.served.append(first)

    @rule()
    def take(self) -> None:
        possible = not self.line and self.in_use < self.limit
        assert self.permits.try_take() == possible
        self.in_use += possible

    @rule()
    def take_without_a_lock(self) -> None:
        """What a wrapped call does."""
        if self.permits.line:
            return
        try:
            self.permits.take()
        except IndexError:
            assert self.in_use >= self.limit
        else:
            self.in_use += 1

    @rule(most=st.integers(1, 6))
    def stand_in_line(self, most: int) -> None:
        somebody = Somebody()
        if self.permits.stand_in_line(somebody, most):
            assert len(self.line) < most
            self.line.append(somebody)
            self.serve()
        else:
            assert len(self.line) >= most

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        somebody = data.draw(st.sampled_from(self.line))
        self.line.remove(somebody)
        assert not self.permits.leave(somebody)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def be_cancelled_after_the_grant(self, data: Any) -> None:
        somebody = data.draw(st.sampled_from(self.served))
        self.served.remove(somebody)
        assert self.permits.leave(somebody)
        self.permits.give_back()
        self.in_use -= 1
        self.serve()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def lose_the_loop(self, data: Any) -> None:
        data.draw(st.sampled_from(self.line)).gone = True

    @precondition(lambda self: self.in_use > len(self.served))
    @rule()
    def give_back(self) -> None:
        self.permits.settle(None)
        self.in_use -= 1
        self.serve()

    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.permits.resize(limit)
        self.serve()

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        assert self.permits.in_use == self.in_use
        assert self.permits.waiting == len(self.line)
        assert all(somebody.granted for somebody in self.served)
        assert not any(somebody.granted for somebody in self.line)


TestBH1PermitsMachine = PermitsMachine.TestCase
TestBH1PermitsMachine.settings = settings(max_examples=150, stateful_step_count=40)


class Watch:
    """How many are inside at once, and how many ever were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        with self.lock:
            self.now -= 1


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("max_wait", [0.0, 60.0])
def test_BH1_sixty_four_threads_never_exceed_the_permits(max_wait: float) -> None:
    bulkhead = Bulkhead("stress", max_concurrent=3, max_wait=max_wait)
    watch, refused = Watch(), [0]

    @bulkhead
    def work() -> None:
        with watch:
            pass

    def loop() -> None:
        for _ in range(100):
            try:
                work()
            except BulkheadFull:
                with watch.lock:
                    refused[0] += 1

    with measured() as seen:
        run_all([threading.Thread(target=loop) for _ in range(64)])
    assert 1 <= watch.most <= 3
    assert watch.calls + refused[0] == 6400
    assert max_wait == 0 or refused[0] == 0
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
    assert seen.count("bulkhead.wait.duration", resource="stress", result="accepted") == watch.calls
    assert seen.count("bulkhead.wait.duration", resource="stress", result="rejected") == refused[0]


@pytest.mark.parametrize("seed", range(3))
def test_AS4_threads_and_tasks_of_several_loops_share_one_bulkhead(seed: int) -> None:
    """Some tasks are cancelled wherever they are, some waits run out, and the permits change all the time."""
    bulkhead = Bulkhead("shared", max_concurrent=3, max_wait=60)
    watch = Watch()

    @bulkhead
    async def work_async(turns: int) -> None:
        with watch:
            for _ in range(turns):
                await asyncio.sleep(0)

    @bulkhead
    def work() -> None:
        with watch:
            pass

    def blocking() -> None:
        for _ in range(100):
            work()

    def looping(number: int) -> None:
        chance = random.Random(seed * 100 + number)

        async def main() -> None:
            for _ in range(10):
                tasks = [asyncio.create_task(work_async(chance.randrange(3))) for _ in range(10)]
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                for task in chance.sample(tasks, 3):
                    task.cancel()
                for done in await asyncio.gather(*tasks, return_exceptions=True):
                    assert done is None or isinstance(done, asyncio.CancelledError)

        asyncio.run(main())

    def changing() -> None:
        chance = random.Random(seed)
        for _ in range(50):
            bulkhead.reconfigure(BulkheadSettings(max_concurrent=chance.randrange(1, 6), max_wait=60))
            threading.Event().wait(0.001)
        bulkhead.reconfigure(BulkheadSettings(max_concurrent=3, max_wait=60))

    run_all([
        *(threading.Thread(target=blocking) for _ in range(8)),
        *(threading.Thread(target=looping, args=(number,)) for number in range(4)),
        threading.Thread(target=changing),
    ])  # fmt: skip
    assert 1 <= watch.most <= 5
    assert watch.now == 0
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
    assert watch.calls >= 800 + 4 * 10 * 7
    for _ in range(3):
        bulkhead.admission().__enter__()
    assert bulkhead.in_use == 3


@pytest.mark.parametrize("turns", range(8))
def test_AS3_cancelling_at_any_await_gives_the_permit_back(turns: int) -> None:
    bulkhead = Bulkhead("awaits", max_concurrent=1, max_wait=60)

    @bulkhead
    async def work() -> None:
        for _ in range(2):
            await asyncio.sleep(0)

    async def main() -> None:
        first, second, third = (asyncio.create_task(work()) for _ in range(3))
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        done = await asyncio.gather(first, second, third, return_exceptions=True)
        assert done[0] is None
        assert done[2] is None

    asyncio.run(main())
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
