"""The asyncio runtime under cancellation: storms, deadlines, and anyio's repeated delivery."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from backstay import telemetry
from backstay.asynchronous import AsyncioRuntime

runtime = AsyncioRuntime()


async def passes(turns: int, ended: list[str]) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    ended.append("ended")
    return "result"


def test_shielded_work_ends_through_a_storm_of_cancellations() -> None:
    async def main() -> None:
        ended: list[str] = []
        task = asyncio.create_task(runtime.shield(passes(50, ended)))
        await asyncio.sleep(0)
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["ended"]
        assert task.cancelling() == 20

    asyncio.run(main())


def test_a_cancellation_before_the_first_step_still_runs_the_shielded_work() -> None:
    async def main() -> list[str]:
        ended: list[str] = []

        async def caller() -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # it runs in a task
            await runtime.shield(passes(3, ended))

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(caller())
        return ended

    assert asyncio.run(main()) == ["ended"]


def test_the_cancellation_is_seen_rather_than_the_error_of_the_work() -> None:
    async def main() -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise LookupError("of the clean-up")

        task = asyncio.create_task(runtime.shield(fail()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        del task
        gc.collect()
        await asyncio.sleep(0)
        assert complaints == []  # "exception was never retrieved" would be noise about what we meant to drop

    asyncio.run(main())


def test_a_timeout_around_a_shield_is_still_a_timeout() -> None:
    async def main() -> tuple[list[str], int]:
        ended: list[str] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await runtime.shield(passes(50, ended))
        current = asyncio.current_task()
        assert current is not None
        return ended, current.cancelling()

    assert asyncio.run(main()) == (["ended"], 0)


def test_work_that_cancels_itself_raises_cancelled_and_does_not_loop() -> None:
    async def main() -> None:
        async def quits() -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(runtime.shield(quits()), 2)

    asyncio.run(main())


def test_anyio_delivers_its_cancellation_again_and_again_without_making_the_shield_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without anyio's own shield around it, the loop in `shield` goes round at every turn of the event loop."""
    rounds = 0
    shield = asyncio.shield

    def counting(task: Any) -> Any:
        nonlocal rounds
        rounds += 1
        return shield(task)

    async def main() -> list[str]:
        ended: list[str] = []
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await runtime.shield(passes(1000, ended))
            await asyncio.sleep(0)
            ended.append("never reached")
        assert scope.cancelled_caught
        return ended

    monkeypatch.setattr(asyncio, "shield", counting)
    assert asyncio.run(main()) == ["ended"]
    assert rounds <= 3


def test_anyio_cancellation_that_was_there_before_does_not_stop_the_shielded_work() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.shield(passes(3, seen))
            await asyncio.sleep(0)
            seen.append("never reached")
        return seen

    assert asyncio.run(main()) == ["ended"]


def test_a_cancelled_gather_leaves_no_piece_behind() -> None:
    async def main() -> tuple[list[str], int]:
        seen: list[str] = []

        async def piece(name: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                seen.append(name)

        task = asyncio.create_task(runtime.gather(lambda: piece("a"), lambda: piece("b")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sorted(seen), len(asyncio.all_tasks())

    assert asyncio.run(main()) == (["a", "b"], 1)


def test_every_await_may_be_cancelled_and_the_clean_up_still_ends() -> None:
    """Cancel at the first, second, ... step until the work ends by itself: what began is always undone."""

    async def acquire(open_: list[str]) -> None:
        try:
            await asyncio.sleep(0)
            open_.append("held")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            await runtime.shield(release(open_))

    async def release(open_: list[str]) -> None:
        await asyncio.sleep(0)
        open_.clear()

    async def main(step: int) -> bool:
        open_: list[str] = []
        task = asyncio.create_task(acquire(open_))
        for _ in range(step):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        await asyncio.wait({task})
        assert open_ == []
        return cancelled

    outcomes = [asyncio.run(main(step)) for step in range(1, 12)]
    assert outcomes[0] is True
    assert outcomes[-1] is False


def test_a_signal_raised_by_a_thread_wakes_waiters_of_every_loop() -> None:
    signal = runtime.signal()
    woken: list[bool] = []
    waiting = threading.Barrier(3, timeout=5)

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(waiting_soon)
        woken.append(await signal.wait(5))

    def waiting_soon() -> None:
        threading.Thread(target=waiting.wait).start()

    threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait()
    signal.set()
    for thread in threads:
        thread.join(5)
    assert woken == [True, True]


def test_a_signal_survives_the_loop_of_a_waiter_that_is_gone() -> None:
    signal = runtime.signal()
    loop = asyncio.new_event_loop()
    waiter = loop.create_task(wait_for_ever(signal.wait))
    loop.run_until_complete(passes(1, []))
    loop.call_soon(lambda: None)
    loop._ready.clear()  # type: ignore[attr-defined]  # a loop that dies with its tasks, as at interpreter exit
    loop.close()
    signal.set()
    assert signal.is_set()
    del waiter


async def wait_for_ever(wait: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    await wait()


def test_a_spawned_task_is_kept_alive_and_carries_its_name() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def work() -> None:
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            seen.append(task.get_name())

        runtime.spawn(work, name="backstay-test")
        gc.collect()
        await passes(5, [])
        return seen

    assert asyncio.run(main()) == ["backstay-test"]


def test_a_job_never_waits_for_itself() -> None:
    async def main() -> list[bool]:
        seen: list[bool] = []
        begun = runtime.signal()

        async def work() -> None:
            await begun.wait(5)
            seen.append(await job.join(5))

        job = runtime.spawn(work, name="selfish")
        begun.set()
        assert await job.join(5)
        return seen

    assert asyncio.run(main()) == [False]


def listed(name: str) -> list[bool]:
    return [entry.alive for entry in telemetry.background() if entry.name == name]


def test_a_job_is_listed_as_background_work_until_it_ends_or_is_cancelled() -> None:
    async def main() -> list[list[bool]]:
        ready, seen = runtime.signal(), list[list[bool]]()

        async def work() -> None:
            await ready.wait()

        ending, cancelled = (runtime.spawn(work, name=f"backstay-listed-{n}") for n in range(2))
        await asyncio.sleep(0)
        seen += [listed("backstay-listed-0"), listed("backstay-listed-1")]
        cancelled.cancel()
        ready.set()
        assert await ending.join(5)
        assert await cancelled.join(5)
        await asyncio.sleep(0)
        return [*seen, listed("backstay-listed-0"), listed("backstay-listed-1")]

    assert asyncio.run(main()) == [[True], [True], [], []]


def test_a_job_that_died_is_logged_and_listed_as_dead(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[bool]:
        async def work() -> None:
            raise LookupError("of the background")

        job = runtime.spawn(work, name="backstay-dying-task")
        assert await job.join(5)
        await asyncio.sleep(0)
        return listed("backstay-dying-task")

    assert asyncio.run(main()) == [False]
    assert "backstay-dying-task died" in caplog.text
    assert "of the background" in caplog.text
