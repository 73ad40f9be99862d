"""One read of a key at a time, in threads and tasks, whoever gives up meanwhile (DG-6)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Unavailable
from backstay.resilience import read_chain
from backstay.resilience.read_chain import LocalTier, ReadChain, RedisTier
from backstay.resilience.read_chain.flight import HANDED_OVER, Flights, Landed
from backstay.resilience.timeout import CallTimedOut, DeadlineExceeded, deadline
from backstay.testing import ManualClock, measured
from backstay.testing.bytecode import racy_updates
from unit.resilience.read_chains import on_lua
from unit.resilience.virtual_loop import pause, run_virtually

LOCAL = LocalTier(fresh=60, max_stale=600)
PATIENCE = 20.0  # s until a test that hangs fails


def chain_of(name: str = "catalogue", **options: Any) -> ReadChain:
    return ReadChain(name, local=LOCAL, key="{product_id}", **options)


class Slow:
    """An origin that a test lets go, and that says when it was entered."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.calls: list[int] = []
        self.errors: list[BaseException | None] = []

    def __call__(self, product_id: int) -> str:
        self.calls.append(product_id)
        number = len(self.calls)
        self.entered.release()
        assert self.go.wait(PATIENCE)
        error = self.errors[number - 1] if number <= len(self.errors) else None
        if error is not None:
            raise error
        return f"product {product_id}"

    async def asynchronous(self, product_id: int) -> str:
        self.calls.append(product_id)
        number = len(self.calls)
        await pause(1.0)
        error = self.errors[number - 1] if number <= len(self.errors) else None
        if error is not None:
            raise error
        return f"product {product_id}"


def waiting(chain: ReadChain, count: int) -> None:
    """Wait until so many reads wait for another one."""
    turn = threading.Event()
    for _ in range(20_000):
        flights = list(chain.chain.flights._open.values())
        if sum(len(flight.waiting or ()) for flight in flights) == count:
            return
        turn.wait(0.001)
    raise AssertionError(f"{count} reads were to wait")


def test_DG6_threads_that_read_one_key_ask_once() -> None:
    origin, chain = Slow(), chain_of("threads-once")
    read = chain.answers(origin)
    with measured() as counts, ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(read, 1) for _ in range(16)]
        assert origin.entered.acquire(timeout=PATIENCE)
        waiting(chain, 15)
        origin.go.set()
        answers = [future.result(PATIENCE) for future in futures]
    assert origin.calls == [1]
    assert {answer.value for answer in answers} == {"product 1"}
    assert sorted(answer.joined for answer in answers) == [False] + [True] * 15
    assert counts.count("read.refills", resource="threads-once", result="joined") == 15
    assert counts.count("read.results", resource="threads-once", source="origin") == 16
    assert len(chain.chain.flights) == 0


def test_DG6_threads_that_read_other_keys_do_not_wait() -> None:
    origin, chain = Slow(), chain_of()
    read = chain(origin)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(read, each) for each in range(8)]
        for _ in range(8):
            assert origin.entered.acquire(timeout=PATIENCE)
        origin.go.set()
        assert [future.result(PATIENCE) for future in futures] == [f"product {each}" for each in range(8)]


def test_DG6_tasks_that_read_one_key_ask_once() -> None:
    origin, chain = Slow(), chain_of()
    read = chain.answers(origin.asynchronous)

    async def main() -> Any:
        return await asyncio.gather(*(read(1) for _ in range(100)))

    answers = run_virtually(main())
    assert origin.calls == [1]
    assert sum(answer.joined for answer in answers) == 99


def test_DG6_a_cancelled_leader_fails_nobody() -> None:
    origin, chain = Slow(), chain_of("cancelled-leader")
    read = chain.answers(origin.asynchronous)

    async def main() -> None:
        leader = asyncio.create_task(read(1))
        await pause(0.1)
        others = [asyncio.create_task(read(1)) for _ in range(5)]
        await pause(0.1)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        answers = await asyncio.gather(*others)
        assert [answer.value for answer in answers] == ["product 1"] * 5
        assert sorted(answer.joined for answer in answers) == [False] + [True] * 4

    with measured() as counts:
        run_virtually(main())
    assert origin.calls == [1, 1], "one of the others went in the leader's place"
    assert counts.count("read.refills", resource="cancelled-leader", result="interrupted") == 1
    assert len(chain.chain.flights) == 0


def test_DG6_any_number_of_leaders_may_be_cancelled_one_after_the_other() -> None:
    origin, chain = Slow(), chain_of()
    read = chain.answers(origin.asynchronous)

    async def main() -> None:
        tasks = [asyncio.create_task(read(1)) for _ in range(10)]
        for number in range(9):
            await pause(0.1)
            running = [task for task in tasks if not task.done()]
            assert len(running) == 10 - number
            running[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, asyncio.CancelledError) for each in done) == 9

    run_virtually(main())
    assert len(chain.chain.flights) == 0


def test_DG6_a_cancelled_follower_troubles_nobody() -> None:
    origin, chain = Slow(), chain_of()
    read = chain.answers(origin.asynchronous)

    async def main() -> None:
        tasks = [asyncio.create_task(read(1)) for _ in range(5)]
        await pause(0.1)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each).__name__ for each in done] == ["Answer"] * 3 + ["CancelledError"] + ["Answer"]

    run_virtually(main())
    assert origin.calls == [1]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit()])
def test_DG6_an_interrupted_thread_hands_over(interruption: BaseException) -> None:
    origin, chain = Slow(), chain_of()
    origin.errors = [interruption]
    read = chain(origin)
    led: list[BaseException] = []

    def lead() -> None:
        try:
            read(1)
        except BaseException as error:
            led.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    assert origin.entered.acquire(timeout=PATIENCE)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(read, 1) for _ in range(4)]
        waiting(chain, 4)
        origin.go.set()
        assert [future.result(PATIENCE) for future in others] == ["product 1"] * 4
    leader.join(PATIENCE)
    assert led == [interruption]
    assert origin.calls == [1, 1]


def test_DG6_threads_and_tasks_wait_for_each_other() -> None:
    chain = chain_of()
    slow = Slow()
    read_in_thread = chain.answers(slow)

    async def never(product_id: int) -> str:
        raise AssertionError("a thread reads this key")

    async def main() -> Any:
        return await asyncio.gather(*(chain.answers(never)(1) for _ in range(3)))

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(read_in_thread, 1)
        assert slow.entered.acquire(timeout=PATIENCE)
        tasks = pool.submit(lambda: asyncio.run(main()))
        waiting(chain, 3)
        slow.go.set()
        assert [answer.value for answer in tasks.result(PATIENCE)] == ["product 1"] * 3
        assert leader.result(PATIENCE).joined is False


def test_DG6_a_thread_takes_over_from_a_cancelled_task() -> None:
    chain = chain_of()
    begun, gone = threading.Event(), threading.Event()

    async def hangs(product_id: int) -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async def main() -> None:
        task = asyncio.create_task(chain.answers(hangs)(1))
        await asyncio.to_thread(gone.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ThreadPoolExecutor(2) as pool:
        loop = pool.submit(lambda: asyncio.run(main()))
        assert begun.wait(PATIENCE)
        follower = pool.submit(chain.answers(lambda product_id: "by the thread"), 1)
        waiting(chain, 1)
        gone.set()
        loop.result(PATIENCE)
        assert follower.result(PATIENCE).value == "by the thread"


def test_a_plain_read_on_the_loop_of_its_leader_does_not_wait_for_ever() -> None:
    origin, chain = Slow(), chain_of()
    read, plain = chain.answers(origin.asynchronous), chain.answers(lambda product_id: "at once")

    async def main() -> None:
        leader = asyncio.create_task(read(1))
        await pause(0.1)
        assert plain(1).value == "at once"  # it blocks the loop that its leader runs on
        assert (await leader).value == "product 1"

    run_virtually(main())


def test_an_origin_that_reads_its_own_key_does_not_wait_for_itself() -> None:
    chain = chain_of()
    depth = 0

    @chain
    def read(product_id: int) -> int:
        nonlocal depth
        depth += 1
        return depth if depth == 3 else read(product_id)

    assert read(1) == 3


def test_an_origin_that_reads_its_own_key_in_a_task_does_not_wait_for_itself() -> None:
    chain = chain_of()
    depth = 0

    @chain
    async def read(product_id: int) -> int:
        nonlocal depth
        depth += 1
        return depth if depth == 3 else await asyncio.create_task(read(product_id))

    assert run_virtually(read(1)) == 3


def test_DG6_a_failure_is_shared_and_each_falls_down_by_itself() -> None:
    origin = Slow()
    origin.errors = [Unavailable("down")]
    chain = chain_of(static=lambda product_id: "static")
    read = chain.answers(origin.asynchronous)

    async def main() -> Any:
        return await asyncio.gather(*(read(1) for _ in range(50)))

    assert {answer.source for answer in run_virtually(main())} == {"static"}
    assert origin.calls == [1]


def test_a_bug_is_shared_as_well() -> None:
    origin = Slow()
    origin.errors = [ValueError("bug")]
    read = chain_of(static="x")(origin.asynchronous)

    async def main() -> Any:
        return await asyncio.gather(*(read(1) for _ in range(50)), return_exceptions=True)

    assert {type(each) for each in run_virtually(main())} == {ValueError}
    assert origin.calls == [1]


def test_a_read_after_a_change_does_not_join_one_from_before_it() -> None:
    chain = chain_of()
    origin = Slow()

    async def main() -> None:
        before = asyncio.create_task(chain.answers(origin.asynchronous)(1))
        await pause(0.1)
        await chain.forget_async("1")
        after = asyncio.create_task(chain.answers(origin.asynchronous)(1))
        assert [(await each).joined for each in (before, after)] == [False, False]

    run_virtually(main())
    assert origin.calls == [1, 1]


# -- deadlines of those who wait


def test_DG6_who_waits_longer_than_its_deadline_serves_what_it_has() -> None:
    chain = ReadChain("catalogue", local=LocalTier(max_stale=600), key="{product_id}", clock=loop_time)

    async def main() -> None:
        origin = Slow()
        read = chain.answers(origin.asynchronous)
        await read(1)
        leader = asyncio.create_task(read(1))
        await pause(0.1)
        with deadline(0.2, clock=loop_time):
            answer = await read(1)
        assert (answer.source, answer.stale) == ("local_cache", True)
        with deadline(0.2, clock=loop_time), pytest.raises(DeadlineExceeded):
            flight_of_another_key = asyncio.create_task(read(2))
            await pause(0)
            await read(2)
        flight_of_another_key.cancel()
        assert (await leader).source == "origin"

    run_virtually(main())


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def test_DG6_a_leader_in_a_hurry_hands_over_to_those_who_have_time() -> None:
    chain = chain_of(clock=loop_time)
    origin = Slow()

    async def main() -> None:
        read = chain.answers(origin.asynchronous)

        async def hurried() -> Any:
            with deadline(0.3, clock=loop_time):
                return await read(1)

        leader = asyncio.create_task(hurried())
        await pause(0.1)
        others = [asyncio.create_task(read(1)) for _ in range(3)]
        with pytest.raises(CallTimedOut):
            await leader
        assert {(await each).value for each in others} == {"product 1"}

    run_virtually(main())
    assert origin.calls == [1, 1]


def test_DG6_a_budget_that_all_have_is_no_reason_to_ask_again() -> None:
    chain = chain_of(budget=0.5, static="static", clock=loop_time)
    origin = Slow()

    async def main() -> None:
        read = chain.answers(origin.asynchronous)
        first = asyncio.create_task(read(1))
        await pause(0.1)
        others = [asyncio.create_task(read(1)) for _ in range(3)]
        assert {(await each).source for each in (first, *others)} == {"static"}

    run_virtually(main())
    assert origin.calls == [1]


# -- the flights themselves


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def grant(self) -> bool:
        self.times += 1
        return True


def test_a_flight_lands_once_and_wakes_everybody_once() -> None:
    flights = Flights()
    flight, leads = flights.enter("a", None)
    assert leads and flights.enter("a", None) == (flight, False)
    waiters = [Woken() for _ in range(3)]
    assert all(flights.board(flight, each) for each in waiters)
    flights.leave(flight, waiters[2])
    flights.land(flight, Landed())
    flights.land(flight, HANDED_OVER)
    assert flight.landed == Landed() and flight.landed is not HANDED_OVER
    assert [each.times for each in waiters] == [1, 1, 0]
    assert not flights.board(flight, Woken())
    assert flights.enter("a", None)[1]


def test_a_detached_flight_ends_without_touching_the_one_after_it() -> None:
    flights = Flights()
    before, _ = flights.enter("a", None)
    flights.detach("a", "b")
    after, leads = flights.enter("a", None)
    assert leads
    flights.land(before, Landed())
    assert flights.enter("a", None) == (after, False)


def test_a_forked_child_waits_for_nobody_of_the_parent() -> None:
    flights = Flights()
    flights.enter("a", None)
    with flights._lock:
        flights.renew()
    assert flights.enter("a", None)[1]


def test_many_threads_over_many_keys_never_get_anothers_answer() -> None:
    clock = ManualClock()
    chain, _ = on_lua(clock, fresh=0.001, max_stale=60, local=LocalTier(fresh=0.001, max_stale=60))
    wrong: list[Any] = []
    lock = threading.Lock()

    @chain
    def read(product_id: int) -> str:
        with lock:
            clock.advance(0.001)
        return f"product {product_id}"

    guard = chain._threads.shared

    class OneAtATime:  # the Lua of a test is for one thread at a time
        async def look(self, *args: Any, **kwargs: Any) -> Any:
            with lock:
                return await guard.look(*args, **kwargs)  # type: ignore[union-attr]

        async def keep(self, *args: Any, **kwargs: Any) -> Any:
            with lock:
                return await guard.keep(*args, **kwargs)  # type: ignore[union-attr]

    chain._threads.shared = OneAtATime()

    def work(seed: int) -> None:
        for step in range(300):
            key = (seed * 7 + step * 3) % 5
            answer = read(key)
            if answer != f"product {key}":
                wrong.append(answer)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, seed) for seed in range(8)]:
            future.result(PATIENCE)
    assert wrong == []
    assert len(chain.chain.flights) == 0


def test_a_tier_on_redis_is_made_without_any_connection() -> None:
    ReadChain("catalogue", redis=RedisTier(store="redis://127.0.0.1:1", max_stale=1), key="{product_id}")


def test_no_count_is_lost_between_threads() -> None:
    files = sorted(Path(read_chain.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    racy = {path.name: racy_updates(compile(path.read_text(), path.name, "exec")) for path in files}
    assert {name: found for name, found in racy.items() if found} == {}
