"""The contract of locks that are taken together."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract, queued, soon

__all__ = ["MultiContract"]


async def _all(locks: Face, *names: str, **terms: Any) -> Any:
    return await locks.call(locks.locks.multi(*names, **{"ttl": LONG, "wait": 0.0, **terms}).acquire)


class MultiContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    clients = 50
    """How many contend in the test of many; a store that takes long for an exchange may have fewer."""

    def test_M1_they_are_taken_sorted_and_once_each_and_are_the_locks_of_those_names(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await _all(locks, "b", "a", "b", "c")
            assert lease.names == ("a", "b", "c")
            assert set(lease.fences) == {"a", "b", "c"}
            assert lease.is_valid()
            assert 0 < lease.remaining() <= LONG
            for name in lease.names:
                with pytest.raises(NotAcquired, match=f"lock '{name}' is held by"):
                    await locks.acquire(name, wait=0.0)
            await locks.release(lease)
            await locks.release(lease)
            assert not lease.is_valid()
            later = [await locks.acquire(name, wait=0.0) for name in "abc"]
            assert all(later.fence > lease.fences[later.name] for later in later)
            for one in later:
                await locks.release(one)

        self.run(face, work)

    def test_M1_all_or_none(self, face: str) -> None:
        async def work(locks: Face) -> None:
            held = await locks.acquire("m", ttl=LONG)
            with pytest.raises(NotAcquired, match="lock 'm' is held by"):
                await _all(locks, "a", "m", "z")
            for name in ("a", "z"):
                await locks.release(await locks.acquire(name, wait=0.0))
            await locks.release(held)
            await locks.release(await _all(locks, "a", "m", "z"))

        self.run(face, work)

    def test_M1_one_deadline_for_the_whole(self, face: str) -> None:
        async def work(locks: Face) -> None:
            held = [await locks.acquire("a", ttl=LONG), await locks.acquire("b", ttl=LONG)]
            start = time.monotonic()
            waiter = asyncio.create_task(_all(locks, "a", "b", wait=0.4))
            await asyncio.sleep(0.2)
            await locks.release(held.pop(0))
            with pytest.raises(NotAcquired, match="lock 'b'"):
                await waiter
            assert 0.4 <= time.monotonic() - start < 0.4 + PATIENCE
            await locks.release(await locks.acquire("a", wait=0.0))
            await locks.release(held.pop())

        self.run(face, work)

    def test_M1_the_loss_of_one_is_the_loss_of_the_whole(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await _all(locks, "a", "b", ttl=SHORT, renew=False)
            told: list[str] = []
            lease.lost.call(lambda: told.append("lost"))
            assert not lease.lost.is_set()
            assert await locks.lost(lease, PATIENCE)
            assert not lease.is_valid()
            with pytest.raises(LockLost, match="lock 'a'"):
                lease.check()
            taken = await locks.acquire("b", wait=PATIENCE)
            with pytest.raises(LockLost) as loss:
                await locks.release(lease)
            assert any("lock '" in note for note in loss.value.__notes__)
            taken.check()
            await locks.release(taken)
            until = time.monotonic() + PATIENCE
            while not told and time.monotonic() < until:
                await asyncio.sleep(0.01)
            assert told == ["lost"]

        self.run(face, work)

    def test_M2_many_with_sets_that_overlap_all_finish(self, face: str) -> None:
        async def work(locks: Face) -> None:
            inside: set[str] = set()
            done = 0

            async def client(number: int) -> None:
                nonlocal done
                chance = random.Random(number)
                for _ in range(2):
                    names = chance.choices("abcdefgh", k=chance.randint(1, 4))  # with duplicates, in any order
                    lease = await _all(locks, *names, wait=LONG)
                    assert not inside & set(names), "two holders of one lock"
                    inside.update(names)
                    await asyncio.sleep(0)
                    inside.difference_update(names)
                    await locks.release(lease)
                    done += 1

            await asyncio.wait_for(asyncio.gather(*(client(number) for number in range(self.clients))), 60.0)
            assert done == 2 * self.clients
            await locks.release(await _all(locks, *"abcdefgh"))

        self.run(face, work)

    def test_leaving_a_block_gives_all_back_and_tells_of_a_loss(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def outlive(lease: Any) -> None:
                while lease.is_valid():
                    await asyncio.sleep(0.01)

            async def nothing(lease: Any) -> None:
                lease.check()

            await locks.inside(locks.locks.multi("a", "b", wait=0.0), nothing)
            with pytest.raises(LockLost):
                await locks.inside(locks.locks.multi("a", "b", ttl=SHORT, renew=False, wait=PATIENCE), outlive)
            await locks.release(await _all(locks, "a", "b", wait=PATIENCE))

        self.run(face, work)

    def test_they_are_renewed_and_extended_together(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await _all(locks, "a", "b", ttl=0.6)
            assert not await locks.lost(lease, 0.9)
            await locks.extend(lease, LONG)
            assert lease.remaining() > LONG - 2.0
            await locks.release(lease)
            with pytest.raises(LockLost, match="released"):
                await locks.extend(lease, LONG)

        self.run(face, work)

    def test_who_gives_up_waiting_leaves_nothing_behind(self, face: str) -> None:
        async def work(locks: Face) -> None:
            held = await locks.acquire("b", ttl=LONG)
            waiter = asyncio.create_task(_all(locks, "a", "b", "c", wait=0.15))
            await queued(waiter)
            with pytest.raises(NotAcquired):
                await soon(waiter)
            await locks.release(held)
            await locks.release(await _all(locks, "a", "b", "c"))

        self.run(face, work)

    def test_no_names_and_bad_names_are_refused(self, face: str) -> None:
        async def work(locks: Face) -> None:
            with pytest.raises(Misuse, match="1 to 256 names"):
                locks.locks.multi()
            with pytest.raises(Misuse, match="1 to 256 names"):
                locks.locks.multi(*(str(number) for number in range(257)))
            with pytest.raises(Misuse, match="name of a lock"):
                locks.locks.multi("a", "")

        self.run(face, work)
