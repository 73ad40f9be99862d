"""The contract of a store of semaphores."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost
from backstay.locks.errors import SizeDiffers

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract, queued, soon

__all__ = ["SemaphoreContract"]


async def _acquire(locks: Face, name: str, count: int = 1, permits: int | None = 4, **terms: Any) -> Any:
    return await locks.call(locks.locks.semaphore(name, permits=permits, **{"ttl": LONG, **terms}).acquire, count)


async def _free(locks: Face, name: str) -> int:
    return int(await locks.call(locks.locks.semaphore(name, permits=None).free))


class SemaphoreContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_so_many_at_a_time_and_no_more(self, face: str) -> None:
        async def work(locks: Face) -> None:
            leases = [await _acquire(locks, "n", wait=0.0) for _ in range(4)]
            assert [lease.permits for lease in leases] == [1] * 4
            assert len({lease.token for lease in leases}) == 4
            assert len({lease.fence for lease in leases}) == 4
            with pytest.raises(NotAcquired, match="semaphore 'n' is held by"):
                await _acquire(locks, "n", wait=0.0)
            await locks.release(leases.pop())
            leases.append(await _acquire(locks, "n", wait=0.0))
            for lease in leases:
                await locks.release(lease)

        self.run(face, work)

    def test_S1_who_dies_gives_back_by_dying_and_releasing_late_raises_no_count(self, face: str) -> None:
        async def work(locks: Face) -> None:
            dead = await _acquire(locks, "s1", 3, ttl=SHORT, renew=False)
            held = await _acquire(locks, "s1")
            assert await locks.lost(dead, PATIENCE)
            again = await _acquire(locks, "s1", 3, wait=PATIENCE)
            with pytest.raises(LockLost):
                await locks.release(dead)
            assert await _free(locks, "s1") == 0
            with pytest.raises(NotAcquired):
                await _acquire(locks, "s1", wait=0.0)
            await locks.release(again)
            await locks.release(again)
            assert await _free(locks, "s1") == 3
            await locks.release(held)
            assert await _free(locks, "s1") == 4

        self.run(face, work)

    def test_S2_several_at_once_are_all_or_nothing_and_two_who_ask_do_not_deadlock(self, face: str) -> None:
        async def work(locks: Face) -> None:
            first = await _acquire(locks, "s2", 2)
            with pytest.raises(NotAcquired):
                await _acquire(locks, "s2", 3, wait=0.05)
            assert await _free(locks, "s2") == 2  # nothing was taken by the one who got nothing

            async def come() -> None:
                for _ in range(5):
                    lease = await _acquire(locks, "s2", 3, wait=LONG)
                    await locks.release(lease)

            tasks = [asyncio.create_task(come()) for _ in range(3)]
            await queued(tasks[0])
            await locks.release(first)
            await asyncio.wait_for(asyncio.gather(*tasks), 30.0)
            assert await _free(locks, "s2") == 4

        self.run(face, work)

    def test_who_asks_for_many_is_not_overtaken_by_those_who_ask_for_few(self, face: str) -> None:
        async def work(locks: Face) -> None:
            first = await _acquire(locks, "many", 2)
            all_ = asyncio.create_task(_acquire(locks, "many", 4, wait=LONG))
            await queued(all_)
            with pytest.raises(NotAcquired):
                await _acquire(locks, "many", 1, wait=0.0)  # two are free, and kept for the one who waits
            await locks.release(first)
            await locks.release(await soon(all_))
            await locks.release(await _acquire(locks, "many", wait=0.0))

        self.run(face, work)

    def test_S3_growing_wakes_who_waits_and_shrinking_revokes_nothing(self, face: str) -> None:
        async def work(locks: Face) -> None:
            pool = locks.locks.semaphore("s3", permits=1, ttl=LONG, wait=LONG)
            held = await locks.call(pool.acquire)
            waiter = asyncio.create_task(locks.call(pool.acquire))
            await queued(waiter)
            assert await locks.call(pool.resize, 2) == 1
            other = await soon(waiter)
            assert await locks.call(pool.resize, 1) == 2
            held.check()
            other.check()
            assert await locks.call(pool.free) == 0
            await locks.release(held)
            with pytest.raises(NotAcquired):  # one is held, and there is one
                await _acquire(locks, "s3", permits=1, wait=0.0)
            await locks.release(other)
            await locks.release(await _acquire(locks, "s3", permits=1, wait=0.0))

        self.run(face, work)

    def test_S3_who_says_another_number_is_refused_and_told_the_cure(self, face: str) -> None:
        async def work(locks: Face) -> None:
            await locks.release(await _acquire(locks, "size", permits=4))
            with pytest.raises(SizeDiffers, match=r"has size 4 .* says 5; say 4, or .*resize\(5\)") as refused:
                await _acquire(locks, "size", permits=5)
            assert (refused.value.said, refused.value.size) == (5, 4)
            whatever = await _acquire(locks, "size", 4, permits=None)
            assert whatever.permits == 4
            await locks.release(whatever)
            with pytest.raises(Misuse, match="can never be had"):
                await _acquire(locks, "size", 5, permits=None)
            with pytest.raises(Misuse, match="not known to the store"):
                await _acquire(locks, "nobody said", permits=None)
            late = locks.locks.semaphore("size", permits=4, ttl=LONG)
            assert await locks.call(locks.locks.semaphore("size", permits=None).resize, 6) == 4
            with pytest.raises(SizeDiffers):
                await locks.call(late.acquire)
            await locks.release(await _acquire(locks, "size", 6, permits=6))

        self.run(face, work)

    def test_more_than_there_are_is_refused_at_once(self, face: str) -> None:
        async def work(locks: Face) -> None:
            with pytest.raises(Misuse, match="4 permits, so 5 at once can never be had"):
                await _acquire(locks, "bound", 5)
            for count in (0, -1, True, 1.5, "2"):
                with pytest.raises(Misuse, match="permits to acquire"):
                    await _acquire(locks, "bound", count)  # type: ignore[arg-type]  # what a caller may do
            for size in (0, -1, True, 2.0):
                with pytest.raises(Misuse, match="permits must be a number"):
                    await _acquire(locks, "bound", permits=size)  # type: ignore[arg-type]  # what a caller may do
            lease = await _acquire(locks, "bound", 4, wait=0.0)
            await locks.release(lease)

        self.run(face, work)

    def test_S4_held_and_free_make_the_whole_whatever_happens(self, face: str) -> None:
        async def work(locks: Face) -> None:
            held: list[Any] = []
            for step in range(24):
                if step % 3 != 2 or not held:
                    try:
                        held.append(await _acquire(locks, "s4", 1 + step % 2, wait=0.0))
                    except NotAcquired:
                        await locks.release(held.pop(0))
                elif held[-1].permits > 1:
                    await locks.call(held[-1].give_back)
                else:
                    await locks.release(held.pop())
                assert sum(lease.permits for lease in held) + await _free(locks, "s4") == 4
            brief = held.pop(0)
            assert brief.is_valid()
            await locks.release(brief)
            for lease in held:
                await locks.release(lease)
            assert await _free(locks, "s4") == 4

        self.run(face, work)

    def test_S5_permits_are_renewed_and_lost_each_for_itself(self, face: str) -> None:
        async def work(locks: Face) -> None:
            kept = await _acquire(locks, "s5", 2, ttl=0.6)
            brief = await _acquire(locks, "s5", 2, ttl=0.6, renew=False)
            assert await locks.lost(brief, PATIENCE)
            await locks.pause(0.7)
            kept.check()
            assert await _free(locks, "s5") == 2
            await locks.release(kept)

        self.run(face, work)

    def test_some_are_given_back_and_serve_who_waits(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await _acquire(locks, "back", 4)
            waiter = asyncio.create_task(_acquire(locks, "back", 3, wait=LONG))
            await queued(waiter)
            await locks.call(lease.give_back, 2)
            await queued(waiter)
            await locks.call(lease.give_back)
            other = await soon(waiter)
            assert (lease.permits, other.permits) == (1, 3)
            with pytest.raises(Misuse, match="release"):
                await locks.call(lease.give_back)
            with pytest.raises(Misuse, match="release"):
                await locks.call(other.give_back, 3)
            assert await _free(locks, "back") == 0
            await locks.release(lease)
            assert await _free(locks, "back") == 1
            await locks.release(other)

        self.run(face, work)

    def test_never_more_inside_than_there_are_permits(self, face: str) -> None:
        async def work(locks: Face) -> None:
            inside = most = done = 0

            async def body(lease: Any) -> None:
                nonlocal inside, most, done
                inside += lease.permits
                assert inside <= 4, "more than there are"
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= lease.permits
                done += 1

            async def worker(number: int) -> None:
                pool = locks.locks.semaphore("busy", permits=4, ttl=LONG, wait=LONG)
                for turn in range(6):
                    await locks.inside(pool.several(1 + (turn + number) % 3), body)
                    await locks.inside(pool, body)

            await asyncio.gather(*(worker(number) for number in range(6)))
            assert done == 72
            assert most > 1
            assert await _free(locks, "busy") == 4

        self.run(face, work)
