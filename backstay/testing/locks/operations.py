"""The contract of what operators do with a store of locks."""

from __future__ import annotations

import asyncio

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost, Resource

from .faces import LONG, PATIENCE, Face, LocksContract, queued

__all__ = ["OperationsContract"]


class OperationsContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_who_holds_since_when_with_what_fence_and_who_waits(self, face: str) -> None:
        async def work(locks: Face) -> None:
            nothing = await locks.call(locks.locks.inspect, "seen")
            assert (nothing.holders, nothing.waiters) == ([], [])
            lease = await locks.acquire("seen", ttl=LONG)
            waiter = asyncio.create_task(locks.acquire("seen", ttl=LONG, wait=LONG))
            await queued(waiter)
            survey = await locks.call(locks.locks.inspect, "seen")
            assert [(each.token, each.fence) for each in survey.holders] == [(lease.token, lease.fence)]
            assert 0.0 <= survey.holders[0].age < PATIENCE
            assert len(survey.waiters) == 1
            assert Resource("seen") in await locks.call(locks.locks.held, limit=10_000)
            await locks.release(lease)
            await locks.release(await waiter)
            assert Resource("seen") not in await locks.call(locks.locks.held, limit=10_000)

        self.run(face, work)

    def test_a_broken_lock_goes_to_the_next_and_its_holder_is_told(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("broken", ttl=0.9)
            (broken,) = await locks.call(
                locks.locks.break_lock, "broken", by="alice", reason="the worker hangs", token=lease.token
            )
            assert (broken.token, broken.fence) == (lease.token, lease.fence)
            later = await locks.acquire("broken", ttl=LONG, wait=PATIENCE)
            assert later.fence > lease.fence
            assert await locks.lost(lease, PATIENCE + LONG)
            with pytest.raises(LockLost):
                await locks.release(lease)
            with pytest.raises(NotAcquired):
                await locks.acquire("broken", wait=0.0)
            await locks.release(later)
            record = (await locks.call(locks.locks.breaks))[-1]
            assert (record.by, record.reason) == ("alice", "the worker hangs")
            assert (record.kind, record.name, record.token, record.fence) == (
                "lock", "broken", lease.token, lease.fence
            )  # fmt: skip

        self.run(face, work)

    def test_a_break_without_a_name_or_a_holder_changes_nothing(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease, stranger = await locks.acquire("kept", ttl=LONG), "nobody-1"
            with pytest.raises(Misuse, match="who breaks"):
                await locks.call(locks.locks.break_lock, "kept", by=" ")
            with pytest.raises(Misuse, match="not held by nobody-1"):
                await locks.call(locks.locks.break_lock, "kept", by="alice", token=stranger)
            with pytest.raises(Misuse, match="kind must be one of"):
                await locks.call(locks.locks.inspect, "kept", kind="gate")
            lease.check()
            await locks.release(lease)
            assert await locks.call(locks.locks.break_lock, "kept", by="alice") == []

        self.run(face, work)
