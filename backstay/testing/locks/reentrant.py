"""The contract of locks that their holder may enter again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract

__all__ = ["ReentrantContract"]


def _lock(face: Face, name: str, **terms: Any) -> Any:
    return face.locks.mutex(name, **{"reentrant": True, "ttl": LONG, "wait": 0.0, **terms})


class ReentrantContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_O3_inner_exits_neither_free_nor_shorten_and_the_fence_is_the_same(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                outer = await mine.call(_lock(mine, "o3").acquire)
                ends = outer.deadline
                inner = await mine.call(_lock(mine, "o3", ttl=1.0).acquire)
                assert inner.fence == outer.fence
                assert inner.token == outer.token
                assert inner.ttl == LONG  # the terms of the outermost
                await mine.release(inner)
                assert not inner.is_valid()
                with pytest.raises(LockLost, match="released"):
                    inner.check()
                with pytest.raises(LockLost, match="released"):
                    await mine.extend(inner, LONG)
                outer.check()
                assert outer.deadline >= ends
                with pytest.raises(NotAcquired):
                    await mine.acquire("o3", wait=0.0)
                await mine.release(inner)  # a second time changes nothing
                outer.check()
                await mine.release(outer)
                after = await mine.acquire("o3", wait=0.0)
                assert after.fence > outer.fence
                await mine.release(outer)
                after.check()
                await mine.release(after)

            await locks.alone(nest)

        self.run(face, work)

    def test_O3_handles_may_go_in_any_order(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                handles = [await mine.call(_lock(mine, "order").acquire) for _ in range(4)]
                for number in (0, 2, 1):
                    await mine.release(handles[number])
                    handles[3].check()
                    with pytest.raises(NotAcquired):
                        await mine.acquire("order", wait=0.0)
                await mine.release(handles[3])
                await mine.release(await mine.acquire("order", wait=0.0))

            await locks.alone(nest)

        self.run(face, work)

    def test_O1_another_thread_or_task_waits(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def refused(mine: Face) -> None:
                with pytest.raises(NotAcquired):
                    await mine.call(_lock(mine, "o1").acquire)

            held = asyncio.Event()
            done = asyncio.Event()
            loop = asyncio.get_running_loop()

            async def holder(mine: Face) -> None:
                async def body(lease: Any) -> None:
                    async def inner(again: Any) -> None:
                        assert again.fence == lease.fence

                    await mine.inside(_lock(mine, "o1"), inner)
                    loop.call_soon_threadsafe(held.set)
                    while not done.is_set():
                        await mine.pause(0.01)
                    await mine.inside(_lock(mine, "o1"), inner)

                await mine.inside(_lock(mine, "o1"), body)

            holding = asyncio.create_task(locks.alone(holder))
            await asyncio.wait_for(held.wait(), PATIENCE)
            await locks.alone(refused)
            done.set()
            await holding
            await locks.release(await locks.acquire("o1", wait=0.0))

        self.run(face, work)

    def test_O2_who_lost_it_is_told_inside_and_may_take_it_anew_outside(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                outer = await mine.call(_lock(mine, "o2", ttl=SHORT, renew=False).acquire)
                assert await mine.lost(outer, PATIENCE)
                with pytest.raises(LockLost):
                    await mine.call(_lock(mine, "o2").acquire)  # inside work that has lost it
                with pytest.raises(LockLost):
                    await mine.release(outer)
                anew = await mine.call(_lock(mine, "o2", wait=PATIENCE).acquire)
                assert anew.fence > outer.fence
                await mine.release(outer)
                anew.check()
                await mine.release(anew)

            await locks.alone(nest)

        self.run(face, work)

    def test_O2_a_lost_holder_frees_nobody_elses_lock(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def lose(mine: Face) -> list[Any]:
                handles = [await mine.call(_lock(mine, "theirs", ttl=SHORT, renew=False).acquire) for _ in range(2)]
                assert await mine.lost(handles[0], PATIENCE)
                return handles

            handles = await locks.alone(lose)
            other = await locks.acquire("theirs", ttl=LONG, wait=PATIENCE)
            for handle in handles:
                with pytest.raises(LockLost):
                    await locks.release(handle)
            other.check()
            with pytest.raises(NotAcquired):
                await locks.acquire("theirs", wait=0.0)
            await locks.release(other)

        self.run(face, work)

    def test_O3_a_recursion_without_end_is_refused(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                handles: list[Any] = []
                with pytest.raises(Misuse, match="recursion"):
                    for _ in range(1000):
                        handles.append(await mine.call(_lock(mine, "deep").acquire))  # noqa: PERF401
                assert len(handles) == 255
                for handle in handles:
                    await mine.release(handle)
                await mine.release(await mine.acquire("deep", wait=0.0))

            await locks.alone(nest)

        self.run(face, work)

    def test_the_plain_lock_of_the_same_name_is_the_same_lock_and_not_reentrant(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                async def body(lease: Any) -> None:
                    with pytest.raises(NotAcquired):
                        await mine.acquire("plain", wait=0.0)

                await mine.inside(_lock(mine, "plain"), body)

                async def refused(lease: Any) -> None:
                    with pytest.raises(NotAcquired):
                        await mine.call(_lock(mine, "plain").acquire)

                await mine.inside(mine.locks.mutex("plain", ttl=LONG, wait=0.0), refused)

            await locks.alone(nest)

        self.run(face, work)

    def test_one_listener_for_each_handle(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> list[str]:
                told: list[str] = []
                outer = await mine.call(_lock(mine, "tell", ttl=SHORT, renew=False).acquire)
                inner = await mine.call(_lock(mine, "tell").acquire)
                outer.lost.call(lambda: told.append("outer"))
                inner.lost.call(lambda: told.append("inner"))
                assert await mine.lost(outer, PATIENCE)
                for _ in range(500):
                    if len(told) < 2:
                        await mine.pause(0.01)
                for handle in (inner, outer):
                    with pytest.raises(LockLost):
                        await mine.release(handle)
                return told

            assert sorted(await locks.alone(nest)) == ["inner", "outer"]

        self.run(face, work)
