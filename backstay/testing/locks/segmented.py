"""The contract of a store of segmented locks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost, SizeDiffers

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract, queued, soon

__all__ = ["SegmentedContract"]


def _of(locks: Face, name: str, segments: Any = 8) -> Any:
    return locks.locks.segmented(name, segments=segments, ttl=LONG, wait=0.0)


def _apart(lock: Any, count: int) -> list[str]:
    """Return keys on so many different stripes."""
    found: dict[int, str] = {}
    for number in range(1000):
        found.setdefault(lock.stripe(f"key {number}"), f"key {number}")
    return [found[stripe] for stripe in sorted(found)][:count]


class SegmentedContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_G1_keys_on_different_stripes_do_not_wait_for_each_other(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "g1")
            one, two = _apart(lock, 2)
            first = await locks.call(lock.lock(one).acquire)
            second = await locks.call(lock.lock(two).acquire)
            assert first.fence != second.fence
            with pytest.raises(NotAcquired, match="segmented lock 'g1' is held by"):
                await locks.call(lock.lock(one).acquire)
            await locks.release(first)
            await locks.release(await locks.call(lock.lock(one).acquire))
            await locks.release(second)

        self.run(face, work)

    def test_G2_several_keys_are_taken_at_once_and_two_on_one_stripe_do_not_stop_each_other(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "g2")
            one, two, three = _apart(lock, 3)
            same = next(key for key in map(str, range(1000)) if lock.stripe(key) == lock.stripe(one))
            lease = await locks.call(lock.lock(two, one, same, one).acquire)
            for key in (one, two, same):
                with pytest.raises(NotAcquired):
                    await locks.call(lock.lock(three, key).acquire)
            await locks.release(await locks.call(lock.lock(three).acquire))
            await locks.release(lease)
            await locks.release(await locks.call(lock.lock(one, two, three).acquire))

        self.run(face, work)

    def test_G2_overlapping_sets_in_any_order_all_finish_and_exclude_each_other(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = locks.locks.segmented("busy", segments=8, ttl=LONG, wait=LONG)
            keys = _apart(lock, 8)
            inside: set[str] = set()
            done = beside = 0

            def body_of(mine: list[str]) -> Any:
                async def body(lease: Any) -> None:
                    nonlocal done, beside
                    assert not inside & set(mine), "two holders of one stripe"
                    inside.update(mine)
                    beside = max(beside, len(inside) - len(mine))
                    await asyncio.sleep(0.01)
                    inside.difference_update(mine)
                    done += 1

                return body

            async def worker(number: int) -> None:
                for turn in range(5):
                    mine = [keys[(number * 3 + turn * step) % 8] for step in range(1, 1 + number % 3 + 1)]
                    section = lock.whole() if turn == number else lock.lock(*mine)
                    await locks.inside(section, body_of(keys if turn == number else mine))

            await asyncio.wait_for(asyncio.gather(*(worker(number) for number in range(6))), 60.0)
            assert done == 30
            assert beside > 0

        self.run(face, work)

    def test_G3_another_number_of_stripes_is_refused(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock, stale = _of(locks, "g3"), _of(locks, "g3")
            await locks.release(await locks.call(lock.lock("a").acquire))
            with pytest.raises(SizeDiffers, match=r"has size 8 .* says 16"):
                await locks.call(_of(locks, "g3", 16).lock("a").acquire)
            assert await locks.call(lock.resize, 16) == 8
            assert lock.segments == 16
            with pytest.raises(SizeDiffers, match=r"has size 16 .* says 8"):
                await locks.call(stale.lock("a").acquire)
            with pytest.raises(SizeDiffers, match=r"has size 16 .* says 8"):
                await locks.call(stale.whole().acquire)
            await locks.release(await locks.call(lock.lock("a").acquire))

        self.run(face, work)

    def test_G3_old_stripes_and_new_exclude_each_other_until_the_old_are_gone(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "drain")
            one, two = _apart(lock, 2)
            held, other = await locks.call(lock.lock(one).acquire), await locks.call(lock.lock(two).acquire)
            await locks.call(lock.resize, 3)
            keys = _apart(lock, 3)
            for key in keys:
                with pytest.raises(NotAcquired):
                    await locks.call(lock.lock(key).acquire)
            held.check()
            await locks.release(held)
            for key in keys:
                with pytest.raises(NotAcquired):
                    await locks.call(lock.lock(key).acquire)
            other.check()
            waiter = asyncio.create_task(locks.call(lock.lock(keys[0], wait=LONG).acquire))
            await queued(waiter)
            await locks.release(other)
            lease = await soon(waiter)
            await locks.release(await locks.call(lock.lock(keys[1]).acquire))
            await locks.release(lease)

        self.run(face, work)

    def test_G3_who_waits_with_the_old_number_is_refused(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock, stale = _of(locks, "waits"), _of(locks, "waits")
            held = await locks.call(lock.lock("a").acquire)
            waiter = asyncio.create_task(locks.call(stale.lock("a", wait=LONG).acquire))
            await queued(waiter)
            await locks.call(lock.resize, 16)
            with pytest.raises(SizeDiffers):
                await soon(waiter)
            await locks.release(held)
            await locks.release(await locks.call(lock.lock("a").acquire))

        self.run(face, work)

    def test_G4_the_whole_waits_for_all_and_is_overtaken_by_nobody(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "g4")
            one, two, three = _apart(lock, 3)
            held = [await locks.call(lock.lock(key).acquire) for key in (one, two)]
            whole = asyncio.create_task(locks.call(lock.whole(wait=LONG).acquire))
            await queued(whole)
            with pytest.raises(NotAcquired):
                await locks.call(lock.lock(three).acquire)  # free, but the whole came before
            late = asyncio.create_task(locks.call(lock.lock(three, wait=LONG).acquire))
            await queued(late)
            await locks.release(held.pop())
            await queued(whole)
            await locks.release(held.pop())
            lease = await soon(whole)
            assert not late.done()
            with pytest.raises(NotAcquired):
                await locks.call(lock.whole().acquire)
            start = time.monotonic()
            await locks.release(lease)
            await locks.release(await soon(late))
            assert time.monotonic() - start < 1.0

        self.run(face, work)

    def test_a_stripe_whose_holder_died_comes_free(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "dead")
            dead = await locks.call(lock.lock("a", "b", ttl=SHORT, renew=False).acquire)
            lease = await locks.call(lock.whole(wait=PATIENCE).acquire)
            assert not dead.is_valid()
            with pytest.raises(LockLost):
                await locks.release(dead)
            lease.check()
            await locks.release(lease)

        self.run(face, work)

    def test_what_makes_no_sense_is_refused_before_anything_is_sent(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lock = _of(locks, "sense")
            with pytest.raises(Misuse, match="at least one key"):
                lock.lock()
            for key in (1.5, None, True, ("a",)):
                with pytest.raises(Misuse, match="a key is a text"):
                    lock.lock(key)
            for segments in (0, -1, 1025, True, 2.0):
                with pytest.raises(Misuse, match="segments must be a number"):
                    _of(locks, "sense", segments)
                with pytest.raises(Misuse, match="segments must be a number"):
                    await locks.call(lock.resize, segments)

        self.run(face, work)
