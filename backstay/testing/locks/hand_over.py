"""The contract of locks that change hands while they are held, over stores whose grants have a time of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.errors import NotAcquired
from backstay.locks import LockLost

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract, queued, soon

__all__ = ["HandOverContract"]


class HandOverContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store.

    A store whose grants live with its session carries no hand-over and does not run this.
    """

    def test_O4_the_same_lock_with_the_same_fence_and_nobody_in_between(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                for other in (threads, tasks):
                    lease = await locks.acquire("o4", ttl=LONG)
                    waiter = asyncio.create_task(locks.acquire("o4", wait=LONG))
                    await queued(waiter)
                    text = await locks.call(lease.detach)
                    await queued(waiter)
                    attached = await other.call(other.locks.attach, text)
                    await queued(waiter)
                    assert attached.fence == lease.fence
                    assert attached.ttl == LONG
                    assert attached.remaining() > LONG - PATIENCE
                    attached.check()
                    await other.release(attached)
                    later = await soon(waiter)
                    assert later.fence > attached.fence
                    await locks.release(later)

        self.run(face, work)

    def test_O4_the_old_side_can_do_nothing_any_more(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async with self.opened(face) as others:
                lease = await locks.acquire("old", ttl=LONG)
                attached = await others.call(others.locks.attach, await locks.call(lease.detach))
                assert not lease.is_valid()
                assert not lease.lost.is_set()
                with pytest.raises(LockLost, match="handed over"):
                    lease.check()
                with pytest.raises(LockLost, match="handed over"):
                    await locks.extend(lease, LONG)
                with pytest.raises(LockLost, match="handed over"):
                    await locks.call(lease.detach)
                await locks.release(lease)
                await locks.close()
                attached.check()
                with pytest.raises(NotAcquired):
                    await others.acquire("old", wait=0.0)
                await others.release(attached)

        self.run(face, work)

    def test_O4_the_new_side_renews_it(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async with self.opened(face) as others:
                lease = await locks.acquire("renews", ttl=0.6)
                attached = await others.call(others.locks.attach, await locks.call(lease.detach))
                assert not await others.lost(attached, 1.3)
                attached.check()
                with pytest.raises(NotAcquired):
                    await locks.acquire("renews", wait=0.0)
                await others.release(attached)

        self.run(face, work)

    def test_O4_a_block_that_hands_its_lock_over_ends_well(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def body(lease: Any) -> str:
                return str(await locks.call(lease.detach, LONG))

            text = await locks.block("block", body, ttl=1.0)
            with pytest.raises(NotAcquired):
                await locks.acquire("block", wait=0.0)
            attached = await locks.call(locks.locks.attach, text)
            await locks.release(attached)
            await locks.release(await locks.acquire("block", wait=0.0))

        self.run(face, work)

    def test_O4_what_nobody_attaches_comes_free_and_what_comes_late_is_lost(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("late", ttl=SHORT)
            text = await locks.call(lease.detach)
            later = await locks.acquire("late", ttl=LONG, wait=PATIENCE)
            assert later.fence > lease.fence
            with pytest.raises(LockLost, match="owned by another"):
                await locks.call(locks.locks.attach, text)
            later.check()
            await locks.release(later)

        self.run(face, work)

    def test_O4_what_was_lost_cannot_be_handed_over(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("lost", ttl=SHORT, renew=False)
            assert await locks.lost(lease, PATIENCE)
            with pytest.raises(LockLost, match="not renewed in time"):
                await locks.call(lease.detach)

        self.run(face, work)

    def test_O4_what_was_released_cannot_be_handed_over(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("free", ttl=LONG)
            text = await locks.call(lease.detach)
            attached = await locks.call(locks.locks.attach, text)
            await locks.release(attached)
            with pytest.raises(LockLost, match="released"):
                await locks.call(attached.detach)
            with pytest.raises(LockLost):
                await locks.call(locks.locks.attach, text)
            await locks.release(await locks.acquire("free", wait=0.0))

        self.run(face, work)
