"""A block whose task is cancelled when the lease is lost: only that cancellation ends there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from backstay.errors import Misuse
from backstay.locks import AsyncLease, AsyncLocks, LockLost, Locks, Options

BRIEF: Options = {"ttl": 0.03, "renew": False, "cancel_on_loss": True}


async def for_ever(lease: Any = None) -> None:
    await asyncio.Event().wait()


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def run(work: Callable[[AsyncLocks], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(f"memory://{uuid.uuid4().hex}") as locks:
            await work(locks)
            assert current().cancelling() == 0, "a cancellation was left over"
            await asyncio.sleep(0)  # one that was not yet delivered would be raised here

    asyncio.run(main())


def test_the_body_is_cancelled_at_its_await_and_the_block_raises_the_loss() -> None:
    async def work(locks: AsyncLocks) -> None:
        seen: list[str] = []
        with pytest.raises(LockLost) as lost:
            async with locks.mutex("x", **BRIEF) as lease:
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    seen.append("cleaned up")
                    assert not lease.is_valid()
                    raise
        assert seen == ["cleaned up"]
        assert (lost.value.reason, lost.value.fence) == ("expired", lease.fence)
        assert isinstance(lost.value.__cause__, asyncio.CancelledError)

    run(work)


def test_it_raises_even_where_losses_are_not_to_be_raised_since_the_body_was_cut_short() -> None:
    quiet: Options = {**BRIEF, "raise_on_loss": False}

    async def work(locks: AsyncLocks) -> None:
        with pytest.raises(LockLost):
            async with locks.mutex("x", **quiet):
                await for_ever()

    run(work)


def test_without_the_option_nobody_is_cancelled() -> None:
    async def work(locks: AsyncLocks) -> None:
        with pytest.raises(LockLost):
            async with locks.mutex("x", ttl=0.03, renew=False) as lease:
                await lease.lost
                await asyncio.sleep(0)

    run(work)


def test_a_body_that_ended_in_time_is_left_alone() -> None:
    async def work(locks: AsyncLocks) -> None:
        async with locks.mutex("x", ttl=30.0, cancel_on_loss=True) as lease:
            lease.check()
        async with locks.mutex("x", ttl=30.0, cancel_on_loss=True) as lease:
            await lease.release()

    run(work)


def test_cancellation_from_outside_stays_what_it_is() -> None:
    async def work(locks: AsyncLocks) -> None:
        inside = asyncio.Event()

        async def hold() -> None:
            async with locks.mutex("x", ttl=30.0, cancel_on_loss=True):
                inside.set()
                await for_ever()

        task = asyncio.create_task(hold())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await (await locks.mutex("x", wait=0.0).acquire()).release()

    run(work)


def test_cancelled_from_outside_and_lost_is_a_cancellation_that_says_so() -> None:
    async def work(locks: AsyncLocks) -> None:
        notes: list[str] = []

        async def hold() -> None:
            me = current()
            try:
                async with locks.mutex("x", **BRIEF) as lease:
                    lease.lost.call(me.cancel)
                    await for_ever()
            except asyncio.CancelledError as error:
                notes.extend(error.__notes__)
                raise

        task = asyncio.create_task(hold())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert any("'x'" in note for note in notes)

    run(work)


def test_the_bodys_own_error_goes_first() -> None:
    async def work(locks: AsyncLocks) -> None:
        with pytest.raises(LookupError, match="mine") as failure:
            async with locks.mutex("x", **BRIEF):
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    raise LookupError("mine") from None
        assert any("'x'" in note for note in failure.value.__notes__)

    run(work)


def test_a_body_that_swallows_the_cancellation_is_told_at_its_end() -> None:
    async def work(locks: AsyncLocks) -> None:
        with pytest.raises(LockLost):
            async with locks.mutex("x", **BRIEF):
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    pass

    run(work)


def test_timeouts_of_asyncio_around_and_inside_keep_their_meaning() -> None:
    async def work(locks: AsyncLocks) -> None:
        with pytest.raises(LockLost):
            async with asyncio.timeout(30.0) as outer:
                async with locks.mutex("x", **BRIEF):
                    async with asyncio.timeout(30.0) as inner:
                        await for_ever()
        assert not outer.expired()
        assert not inner.expired()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01) as outer:
                async with locks.mutex("y", ttl=30.0, cancel_on_loss=True):
                    await for_ever()
        assert outer.expired()
        with pytest.raises(TimeoutError):
            async with locks.mutex("z", ttl=30.0, cancel_on_loss=True):
                async with asyncio.timeout(0.01):
                    await for_ever()

    run(work)


def test_the_tasks_of_a_group_in_the_body_are_cancelled_with_it() -> None:
    async def work(locks: AsyncLocks) -> None:
        ended: list[str] = []

        async def child() -> None:
            try:
                await for_ever()
            finally:
                ended.append("child")

        with pytest.raises(LockLost):
            async with locks.mutex("x", **BRIEF):
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    group.create_task(child())
        assert ended == ["child", "child"]

    run(work)


def test_it_is_right_with_anyio() -> None:
    async def work(locks: AsyncLocks) -> None:
        with anyio.move_on_after(30.0) as scope:
            with pytest.raises(LockLost):
                async with locks.mutex("x", **BRIEF):
                    async with anyio.create_task_group() as group:
                        group.start_soon(for_ever)
                        await anyio.sleep_forever()
        assert not scope.cancelled_caught
        with anyio.move_on_after(0.01) as scope:
            async with locks.mutex("y", ttl=30.0, cancel_on_loss=True):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        await (await locks.mutex("y", wait=0.0).acquire()).release()

    run(work)


def test_every_recipe_has_it() -> None:
    async def work(locks: AsyncLocks) -> None:
        sections: list[Any] = [
            locks.mutex("x", reentrant=True, **BRIEF),
            locks.read_write("x", **BRIEF).read(),
            locks.semaphore("x", permits=2, **BRIEF),
            locks.semaphore("x", permits=2).several(2),
            locks.segmented("x", segments=4).lock("a", **BRIEF),
            locks.multi("a", "b", **BRIEF),
        ]
        sections[3] = locks.semaphore("y", permits=2, **BRIEF).several(2)
        for section in sections:
            with pytest.raises(LockLost):
                async with section:
                    await for_ever()

    run(work)


def test_the_guard_has_it_for_async_def_only() -> None:
    async def work(locks: AsyncLocks) -> None:
        @locks.guard("x", **BRIEF)
        async def guarded() -> None:
            await for_ever()

        with pytest.raises(LockLost):
            await guarded()
        with pytest.raises(Misuse, match="async def"):

            @locks.guard("x", **BRIEF)
            def plain() -> None: ...

    run(work)


def test_a_thread_cannot_be_cancelled() -> None:
    with pytest.raises(Misuse, match="asyncio"):
        Locks.connect("memory://").mutex("x", cancel_on_loss=True)


def test_a_handle_has_no_block_to_cancel() -> None:
    async def work(locks: AsyncLocks) -> None:
        lease: AsyncLease = await locks.mutex("x", **BRIEF).acquire()
        await lease.lost
        await asyncio.sleep(0)
        with pytest.raises(LockLost):
            await lease.release()

    run(work)
