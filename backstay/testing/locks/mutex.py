"""The contract of a store of mutexes: what every backend promises, on both faces."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost, current_lease

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract

__all__ = ["MutexContract"]


class MutexContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    # -- the handle

    def test_C1_an_acquisition_gives_a_handle_of_its_own(self, face: str) -> None:
        async def work(locks: Face) -> None:
            before = await locks.acquire("c1", ttl=LONG)
            assert before.name == "c1"
            assert isinstance(before.fence, int)
            assert before.ttl == LONG
            assert before.is_valid()
            assert 0 < before.remaining() <= LONG
            assert not before.lost.is_set()
            before.check()
            await locks.release(before)
            assert not before.is_valid()
            after = await locks.acquire("c1", ttl=LONG)
            assert after.token != before.token
            assert after.fence > before.fence
            await locks.release(after)

        self.run(face, work)

    def test_C2_C8_held_by_another_is_refused_in_time_and_says_so(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("c2", ttl=LONG)
            for wait in (0.0, 0.1):
                start = time.monotonic()
                with pytest.raises(NotAcquired, match="'c2' is held by") as refused:
                    await locks.acquire("c2", wait=wait)
                assert wait <= time.monotonic() - start < wait + PATIENCE
                assert refused.value.retry_after is not None
                assert 0 < refused.value.retry_after <= LONG + 0.01  # a store may round its ttl up
            lease.check()
            await locks.release(lease)

        self.run(face, work)

    def test_C3_C4_without_renewal_it_ends_by_itself_before_its_ttl_is_over(self, face: str) -> None:
        async def work(locks: Face) -> None:
            start = time.monotonic()
            lease = await locks.acquire("c3", ttl=SHORT, renew=False)
            assert lease.remaining() < SHORT
            assert await locks.lost(lease, PATIENCE)
            assert time.monotonic() - start >= SHORT * 0.9
            assert not lease.is_valid()
            assert lease.lost.is_set()
            with pytest.raises(LockLost, match="not renewed in time") as lost:
                lease.check()
            assert (lost.value.lock, lost.value.fence, lost.value.reason) == ("c3", lease.fence, "expired")

        self.run(face, work)

    def test_C5_the_loss_is_told_once(self, face: str) -> None:
        async def work(locks: Face) -> None:
            told: list[str] = []
            lease = await locks.acquire("c5", ttl=SHORT, renew=False)
            lease.lost.call(lambda: told.append("early"))
            assert await locks.lost(lease, PATIENCE)
            lease.lost.call(lambda: told.append("late"))
            end = time.monotonic() + PATIENCE
            while len(told) < 2 and time.monotonic() < end:
                await asyncio.sleep(0.01)
            with pytest.raises(LockLost):
                await locks.release(lease)
            assert sorted(told) == ["early", "late"]

        self.run(face, work)

    def test_C6_leaving_a_block_after_a_loss_raises(self, face: str) -> None:
        async def outlive(lease: Any) -> None:
            while lease.is_valid():
                await asyncio.sleep(0.01)

        async def outlive_and_fail(lease: Any) -> None:
            await outlive(lease)
            raise LookupError("the body's own")

        async def work(locks: Face) -> None:
            with pytest.raises(LockLost):
                await locks.block("c6", outlive, ttl=SHORT, renew=False)
            with pytest.raises(LookupError, match="the body's own") as failure:
                await locks.block("c6", outlive_and_fail, ttl=SHORT, renew=False)
            assert any("'c6'" in note for note in failure.value.__notes__)
            await locks.block("c6", outlive, ttl=SHORT, renew=False, raise_on_loss=False)

        self.run(face, work)

    def test_C7_a_second_release_does_nothing_even_to_a_later_holder(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("c7")
            await locks.release(lease)
            later = await locks.acquire("c7", ttl=LONG)
            await locks.release(lease)
            with pytest.raises(NotAcquired):
                await locks.acquire("c7", wait=0.0)
            assert later.is_valid()
            await locks.release(later)

        self.run(face, work)

    def test_C9_a_waiter_that_gave_up_leaves_nothing_behind(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("c9", ttl=LONG)
            for _ in range(3):
                with pytest.raises(NotAcquired):
                    await locks.acquire("c9", wait=0.05)
            await locks.release(lease)
            again = await locks.acquire("c9", wait=0.0)  # a ghost in the queue would be given the lock instead
            await locks.release(again)

        self.run(face, work)

    def test_C10_C11_times_without_sense_are_refused_and_small_ones_rounded_up(self, face: str) -> None:
        async def work(locks: Face) -> None:
            for ttl in (0, -1, float("nan"), float("inf"), None, "10", True):
                with pytest.raises(Misuse, match="ttl"):
                    await locks.acquire("c10", ttl=ttl)
            for wait in (-0.1, float("nan"), "5"):
                with pytest.raises(Misuse, match="wait"):
                    await locks.acquire("c10", wait=wait)
            tiny = await locks.acquire("c10", ttl=0.0001, renew=False)
            with pytest.raises(LockLost):
                while True:
                    tiny.check()

        self.run(face, work)

    # -- fence and extension

    def test_F1_F2_fences_rise_with_every_grant_however_it_ended(self, face: str) -> None:
        async def work(locks: Face) -> None:
            fences: list[int] = []
            for number in range(12):
                lease = await locks.acquire("f1", ttl=0.03 if number % 3 == 0 else LONG, renew=False)
                fences.append(lease.fence)
                if number % 3 == 0:
                    assert await locks.lost(lease, PATIENCE)
                else:
                    await locks.release(lease)
            assert fences == sorted(set(fences))

        self.run(face, work)

    def test_R7_extending_sets_the_end_and_never_shortens_it(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("r7", ttl=1.0, renew=False)
            await locks.extend(lease, LONG)
            assert lease.remaining() > LONG - 2.0
            longest = lease.deadline
            await locks.extend(lease, 0.01)
            assert lease.deadline == longest
            with pytest.raises(Misuse, match="ttl"):
                await locks.extend(lease, 0)
            with pytest.raises(NotAcquired):
                await locks.acquire("r7", wait=0.05)
            await locks.release(lease)
            with pytest.raises(LockLost, match="released"):
                await locks.extend(lease, LONG)

        self.run(face, work)

    def test_N1_a_held_lock_is_renewed_beyond_its_ttl(self, face: str) -> None:
        async def work(locks: Face) -> None:
            lease = await locks.acquire("n1", ttl=0.6)
            assert not await locks.lost(lease, 1.3)
            lease.check()
            with pytest.raises(NotAcquired):
                await locks.acquire("n1", wait=0.0)
            await locks.release(lease)

        self.run(face, work)

    # -- owners

    def test_O2_N6_the_late_release_of_a_lost_lease_frees_nobody_elses_lock(self, face: str) -> None:
        async def work(locks: Face) -> None:
            early = await locks.acquire("o2", ttl=SHORT, renew=False)
            late = await locks.acquire("o2", ttl=LONG, wait=PATIENCE)
            assert not early.is_valid()
            with pytest.raises(LockLost):
                await locks.release(early)
            late.check()
            with pytest.raises(NotAcquired):
                await locks.acquire("o2", wait=0.0)
            await locks.release(late)
            assert late.fence > early.fence

        self.run(face, work)

    def test_one_at_a_time_and_nobody_starves(self, face: str) -> None:
        async def work(locks: Face) -> None:
            inside: list[int] = []
            count = 0

            async def body(lease: Any) -> None:
                nonlocal count
                inside.append(lease.fence)
                assert len(inside) == 1, "two holders"
                await asyncio.sleep(0)
                count += 1
                assert inside.pop() == lease.fence

            async def worker() -> None:
                for _ in range(10):
                    await locks.block("busy", body, ttl=LONG, wait=LONG)

            await asyncio.gather(*(worker() for _ in range(6)))
            assert count == 60

        self.run(face, work)

    def test_Q5_first_come_first_served(self, face: str) -> None:
        async def work(locks: Face) -> None:
            order: list[int] = []

            async def waiter(number: int) -> None:
                lease = await locks.acquire("q5", wait=LONG)
                order.append(number)
                await locks.release(lease)

            lease = await locks.acquire("q5", ttl=LONG)
            waiters: list[asyncio.Task[None]] = []
            for number in range(5):
                waiters.append(asyncio.create_task(waiter(number)))
                await asyncio.sleep(0.06)  # the order of arrival is what is tested
            await locks.release(lease)
            await asyncio.gather(*waiters)
            assert order == [0, 1, 2, 3, 4]

        self.run(face, work)

    def test_W5_a_release_wakes_the_waiter_at_once(self, face: str) -> None:
        async def work(locks: Face) -> None:
            for _ in range(3):  # the first also opens what the waiter listens on
                lease = await locks.acquire("wake", ttl=LONG)
                waiter = asyncio.create_task(locks.acquire("wake", wait=LONG))
                await asyncio.sleep(0.06)
                start = time.monotonic()
                await locks.release(lease)
                await locks.release(await waiter)
                assert time.monotonic() - start < 1.0  # without a wake-up it would be a beat of 2 s

        self.run(face, work)

    def test_O6_closing_announces_the_loss_and_gives_back(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async with self.opened(face) as others:
                lease = await others.acquire("o6", ttl=LONG)
                await others.close()
                assert not lease.is_valid()
                with pytest.raises(LockLost, match="close"):
                    lease.check()
                with pytest.raises(Misuse, match="closed"):
                    await others.acquire("o6")
            await locks.release(await locks.acquire("o6", wait=0.0))

        self.run(face, work)

    # -- both faces together

    def test_both_faces_share_the_store(self) -> None:
        async def main() -> None:
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                lease = await threads.acquire("both", ttl=LONG)
                with pytest.raises(NotAcquired):
                    await tasks.acquire("both", wait=0.0)
                waiter = asyncio.create_task(tasks.acquire("both", wait=LONG))
                await asyncio.sleep(0.06)
                await threads.release(lease)
                later = await waiter
                assert later.fence > lease.fence
                await tasks.release(later)

        asyncio.run(main())

    def test_a_guard_serves_def_and_async_def(self) -> None:
        locks = self.connect()

        @locks.guard("stock:{product_id}", ttl=LONG, wait=0.0)
        def sell(product_id: int, *, nested: bool = False) -> int:
            if nested:
                return sell(product_id)
            return current_lease().fence

        @locks.guard("stock:{product_id}", ttl=LONG, wait=0.0)
        async def restock(product_id: int) -> int:
            with pytest.raises(NotAcquired):
                await asyncio.to_thread(sell, product_id)
            return current_lease().fence

        first, second = sell(7), asyncio.run(restock(7))
        assert second > first
        with pytest.raises(NotAcquired, match="'stock:7'"):
            sell(7, nested=True)
        locks.close()
