"""The semaphore bulkhead, in both colours: exact, first come first served, no holes (BH-1)."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from backstay.errors import BulkheadFull, Misuse
from backstay.resilience.bulkhead import Bulkhead, BulkheadSettings
from backstay.resilience.timeout import DeadlineExceeded, deadline
from backstay.testing import measured

LONG = 60.0


class Colour:
    """Runs a function behind a bulkhead as `def` or as `async def`, as if both were blocking."""

    def __init__(self, name: str) -> None:
        self.name = name

    def guard(self, bulkhead: Bulkhead, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.name == "sync":

            @bulkhead
            def guarded(*args: Any) -> Any:
                return function(*args)

            return guarded

        @bulkhead
        async def guarded_async(*args: Any) -> Any:
            await asyncio.sleep(0)
            return function(*args)

        return lambda *args: asyncio.run(guarded_async(*args))

    def block(self, bulkhead: Bulkhead, function: Callable[[], Any]) -> Any:
        if self.name == "sync":
            with bulkhead.admission():
                return function()

        async def inside() -> Any:
            async with bulkhead.admission():
                return function()

        return asyncio.run(inside())

    def stream(self, bulkhead: Bulkhead, items: list[Any]) -> list[Any]:
        if self.name == "sync":

            @bulkhead
            def produce() -> Any:
                for item in items:
                    yield item, bulkhead.in_use

            return list(produce())

        @bulkhead
        async def produce_async() -> Any:
            for item in items:
                yield item, bulkhead.in_use

        async def collect() -> list[Any]:
            return [each async for each in produce_async()]

        return asyncio.run(collect())


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


def test_BH1_a_call_holds_one_permit_and_gives_it_back(colour: Colour) -> None:
    bulkhead = Bulkhead("one", max_concurrent=2)
    assert colour.guard(bulkhead, lambda number: (number, bulkhead.in_use))(7) == (7, 1)
    assert bulkhead.in_use == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_AS3_a_permit_comes_back_however_the_call_ends(colour: Colour, error: type[BaseException]) -> None:
    bulkhead = Bulkhead("ends", max_concurrent=1)

    def fail() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(error):
            colour.guard(bulkhead, fail)()
        assert bulkhead.in_use == 0


def test_BH1_no_wait_is_refused_at_once_and_nothing_is_called(colour: Colour) -> None:
    bulkhead = Bulkhead("full", max_concurrent=1)
    called: list[int] = []
    with bulkhead.admission(), pytest.raises(BulkheadFull, match="'full': all 1 permits.*was not called"):
        colour.guard(bulkhead, lambda: called.append(1))()
    assert called == []
    colour.guard(bulkhead, lambda: called.append(1))()
    assert called == [1]


def test_BH1_a_wait_ends_in_time_and_takes_nothing(colour: Colour) -> None:
    bulkhead = Bulkhead("late", max_concurrent=1, max_wait=0.01)
    with bulkhead.admission(), measured() as seen, pytest.raises(BulkheadFull, match="no permit of 1 came free"):
        colour.guard(bulkhead, lambda: None)()
    assert seen.count("bulkhead.wait.duration", result="timed_out") == 1
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_BH1_the_line_is_bounded(colour: Colour) -> None:
    bulkhead = Bulkhead("line", max_concurrent=1, max_wait=LONG, max_waiting=1)
    with bulkhead.admission():
        first = threading.Thread(target=bulkhead(nothing))
        first.start()
        until(lambda: bulkhead.waiting == 1)
        with pytest.raises(BulkheadFull, match="and 1 callers wait"):
            colour.guard(bulkhead, lambda: None)()
    first.join()
    assert bulkhead.in_use == 0


def test_a_wait_lasts_no_longer_than_the_deadline_outside(colour: Colour) -> None:
    bulkhead = Bulkhead("bounded", max_concurrent=1, max_wait=LONG)
    with bulkhead.admission():
        with deadline(0.02), pytest.raises(BulkheadFull, match="no permit of 1 came free"):
            colour.guard(bulkhead, lambda: None)()
        with deadline(0), pytest.raises(DeadlineExceeded):
            colour.guard(bulkhead, lambda: None)()
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_CB10_a_block_and_a_stream_hold_a_permit_to_their_end(colour: Colour) -> None:
    bulkhead = Bulkhead("stream", max_concurrent=1)
    assert colour.block(bulkhead, lambda: bulkhead.in_use) == 1
    assert colour.stream(bulkhead, [1, 2]) == [(1, 1), (2, 1)]
    assert bulkhead.in_use == 0


def test_an_abandoned_stream_gives_its_permit_back() -> None:
    bulkhead = Bulkhead("abandoned", max_concurrent=1)

    @bulkhead
    def produce() -> Any:
        yield 1
        yield 2

    stream = produce()
    assert bulkhead.in_use == 0
    next(stream)
    assert bulkhead.in_use == 1
    del stream
    assert bulkhead.in_use == 0


def test_BH1_waiters_are_served_first_come_first_served_whatever_their_colour() -> None:
    bulkhead = Bulkhead("fifo", max_concurrent=1, max_wait=LONG)
    served: list[int] = []

    @bulkhead
    async def enter_async(number: int) -> None:
        served.append(number)

    @bulkhead
    def enter(number: int) -> None:
        served.append(number)

    threads: list[threading.Thread] = []
    with bulkhead.admission():
        for number in range(10):
            target: Any = enter if number % 2 else lambda number: asyncio.run(enter_async(number))
            threads.append(threading.Thread(target=target, args=(number,)))
            threads[-1].start()
            until(lambda number=number: bulkhead.waiting == number + 1)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert served == list(range(10))


def test_BH1_nobody_overtakes_those_in_line() -> None:
    bulkhead, served = Bulkhead("overtake", max_concurrent=1, max_wait=LONG), list[str]()
    with bulkhead.admission():
        waiting = threading.Thread(target=bulkhead(partial(served.append, "waiting")))
        waiting.start()
        until(lambda: bulkhead.waiting == 1)
        bulkhead._permits.put(None)  # given back, but not yet handed on: the moment in which a newcomer could overtake
        bulkhead(partial(served.append, "newcomer"))()
        waiting.join(10)
        assert served == ["waiting", "newcomer"]
        bulkhead._permits.take()
    assert bulkhead.in_use == 0


def test_AS3_a_cancelled_waiter_leaves_no_hole() -> None:
    bulkhead = Bulkhead("cancel", max_concurrent=1, max_wait=LONG)
    served: list[str] = []

    @bulkhead
    async def enter(name: str) -> None:
        served.append(name)

    async def main() -> None:
        async with bulkhead.admission():
            tasks = {name: asyncio.create_task(enter(name)) for name in "abc"}
            await asyncio.sleep(0)
            assert bulkhead.waiting == 3
            tasks["a"].cancel()
            tasks["b"].cancel()
            await asyncio.sleep(0)
        done = await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert [type(each) for each in done] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]

    with measured() as seen:
        asyncio.run(main())
    assert served == ["c"]
    assert seen.count("bulkhead.wait.duration", result="canceled") == 2
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


def test_AS3_a_waiter_cancelled_after_its_grant_hands_the_permit_on() -> None:
    bulkhead = Bulkhead("granted", max_concurrent=1, max_wait=LONG)
    served: list[str] = []

    @bulkhead
    async def enter(name: str) -> None:
        served.append(name)

    async def main() -> None:
        async with bulkhead.admission():
            first, second = asyncio.create_task(enter("first")), asyncio.create_task(enter("second"))
            await asyncio.sleep(0)
        assert bulkhead.waiting == 1  # the first has the permit, but has not woken yet
        first.cancel()
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)

    asyncio.run(main())
    assert served == ["second"]
    assert bulkhead.in_use == 0


def test_AS4_the_permit_of_a_closed_loop_goes_to_the_next_in_line() -> None:
    bulkhead = Bulkhead("closed", max_concurrent=1, max_wait=LONG)
    served: list[str] = []

    @bulkhead
    async def enter(name: str) -> None:
        served.append(name)

    with bulkhead.admission():
        loop = asyncio.new_event_loop()
        lost = loop.create_task(enter("lost"))
        loop.run_until_complete(asyncio.sleep(0))
        assert bulkhead.waiting == 1
        loop.close()
        behind = threading.Thread(target=bulkhead(partial(served.append, "behind")))
        behind.start()
        until(lambda: bulkhead.waiting == 2)
    behind.join(10)
    assert served == ["behind"]
    lost._log_destroy_pending = False  # type: ignore[attr-defined]  # it is lost on purpose
    coroutine: Any = lost.get_coro()
    coroutine.close()
    assert bulkhead.in_use == 0


def test_BH3_the_context_of_the_caller_is_the_calls(colour: Colour) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    tenant.set("seven")
    assert colour.guard(Bulkhead("context"), tenant.get)() == "seven"


@pytest.mark.parametrize("start", [1, 3, 5])
@pytest.mark.parametrize("end", [1, 2, 5, 9])
@pytest.mark.parametrize("held", [0, 1, 3, 5])
def test_permits_change_while_calls_run(start: int, end: int, held: int) -> None:
    bulkhead = Bulkhead("live", max_concurrent=start)
    blocks = [bulkhead.admission() for _ in range(min(held, start))]
    for block in blocks:
        block.__enter__()
    bulkhead.reconfigure(BulkheadSettings(max_concurrent=end))
    assert bulkhead.in_use == len(blocks)
    more: list[Any] = []
    for _ in range(max(0, end - len(blocks))):
        more.append(bulkhead.admission())
        more[-1].__enter__()
    with pytest.raises(BulkheadFull):
        bulkhead.admission().__enter__()
    for place, block in enumerate(blocks):
        block.__exit__(None, None, None)
        left = len(blocks) + len(more) - place - 1
        if left < end:
            with bulkhead.admission():
                assert bulkhead.in_use == left + 1
        else:
            with pytest.raises(BulkheadFull):
                bulkhead.admission().__enter__()
    for block in more:
        block.__exit__(None, None, None)
    assert bulkhead.in_use == 0
    assert bulkhead.settings.max_concurrent == end


def test_more_permits_let_those_in_line_in() -> None:
    bulkhead = Bulkhead("grow", max_concurrent=1, max_wait=LONG)
    with bulkhead.admission():
        threads = [threading.Thread(target=bulkhead(nothing)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: bulkhead.waiting == 3)
        bulkhead.reconfigure(BulkheadSettings(max_concurrent=2, max_wait=LONG))
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
    assert bulkhead.in_use == 0


def test_the_algebra_of_results_is_the_number_of_calls(colour: Colour) -> None:
    bulkhead = Bulkhead("algebra", max_concurrent=1)
    call = colour.guard(bulkhead, lambda: None)
    with measured() as seen:
        for _ in range(5):
            call()
        with bulkhead.admission():
            for _ in range(3):
                with pytest.raises(BulkheadFull):
                    call()
    attributes = {"resource": "algebra", "policy_type": "bulkhead", "kind": "semaphore"}
    assert seen.count("bulkhead.wait.duration", result="accepted", **attributes) == 6
    assert seen.count("bulkhead.wait.duration", result="rejected", **attributes) == 3
    assert seen.count("bulkhead.wait.duration", **attributes) == 9


def test_how_full_it_is_can_be_seen() -> None:
    bulkhead = Bulkhead("seen", max_concurrent=3, max_wait=1, max_waiting=5)
    with measured() as seen, bulkhead.admission():
        assert seen.value("bulkhead.usage", resource="seen", state="active") == 1
        assert seen.value("bulkhead.limit", resource="seen") == 3
        assert seen.value("bulkhead.queue.usage", resource="seen") == 0
        assert seen.value("bulkhead.queue.limit", resource="seen") == 5
        assert repr(bulkhead) == "Bulkhead('seen', 1 of 3 permits in use)"


def test_IN2_a_forked_child_has_all_permits_and_what_its_parent_holds_is_not_given_to_it() -> None:
    bulkhead = Bulkhead("forked", max_concurrent=2, max_wait=LONG)
    with bulkhead.admission():
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                answer = [str(bulkhead.in_use)]
                with bulkhead.admission(), bulkhead.admission():
                    answer.append(str(bulkhead.in_use))
                    answer.append(str(bulkhead._permits.try_take()))
                os.write(writing, " ".join(answer).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer_of_child:
            assert answer_of_child.read() == b"0 2 False"
        os.waitpid(child, 0)
        assert bulkhead.in_use == 1


def test_IN2_a_call_that_was_running_at_the_fork_gives_back_to_where_it_took_from() -> None:
    bulkhead = Bulkhead("episode", max_concurrent=1)

    @bulkhead
    def work() -> None:
        bulkhead.renew()  # what the hook calls in a child
        with bulkhead.admission():
            pass

    work()
    assert bulkhead.in_use == 0
    with bulkhead.admission(), pytest.raises(BulkheadFull):
        bulkhead.admission().__enter__()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8, BulkheadSettings(max_concurrent=8)),
        ({"max_concurrent": 2, "max_wait": 1}, BulkheadSettings(max_concurrent=2, max_wait=1.0)),
        (BulkheadSettings(), BulkheadSettings()),
    ],
)
def test_settings_are_read_from_what_a_user_writes(value: Any, expected: BulkheadSettings) -> None:
    assert BulkheadSettings.of(value) == expected


@pytest.mark.parametrize(
    "value",
    [0, -1, True, 1.5, "8", None, {"max_concurrent": 0}, {"permits": 1}, {"max_wait": -1}, {"max_waiting": 0},
     {"max_wait": float("nan")}],
)  # fmt: skip
def test_wrong_settings_are_refused_at_once(value: Any) -> None:
    with pytest.raises(Misuse):
        BulkheadSettings.of(value)


def test_settings_come_in_one_form_only() -> None:
    with pytest.raises(Misuse, match="max_wait, but not both"):
        Bulkhead("both", max_wait=1, settings=BulkheadSettings())


def nothing() -> None:
    """Stand for work."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere, for as long as a loaded machine may take."""
    turn = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        turn.wait(0.0005)
    raise AssertionError("it did not come about")
