"""The contracts of latches and barriers: what every store promises, on both faces.

Subclass `LatchContract` and `BarrierContract`, give `connect` and `connect_async`, and run them on your store.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from backstay.errors import Misuse
from backstay.locks import BrokenBarrier
from backstay.testing._two_faces import PATIENCE, Store, TwoFaces

__all__ = ["BarrierContract", "LatchContract"]

SETTLE = 0.1  # s in which those who were started have begun to wait


class LatchContract(TwoFaces):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_L1_it_opens_at_zero_for_all_who_wait_and_for_those_who_come_late(self, face: str) -> None:
        async def work(store: Store) -> None:
            latch = store.locks.latch("open", 3)
            assert await store.do(latch.left) == 3
            waiters = [asyncio.create_task(store.do(store.locks.latch("open", 3).wait, PATIENCE)) for _ in range(4)]
            await asyncio.sleep(SETTLE)
            assert await store.do(latch.count_down) == 2
            assert await store.do(latch.wait, 0.05) is False
            assert not any(waiter.done() for waiter in waiters)
            start = time.monotonic()
            assert await store.do(latch.count_down, 2) == 0
            assert await asyncio.gather(*waiters) == [True] * 4
            assert time.monotonic() - start < 1.5, "woken by the change, not by the beat of 2 s"
            assert await store.do(store.locks.latch("open", 3).wait, 0) is True

        self.run(face, work)

    def test_L1_the_count_never_goes_below_zero(self, face: str) -> None:
        async def work(store: Store) -> None:
            latch = store.locks.latch("below", 2)
            assert await store.do(latch.count_down, 5) == 0
            assert await store.do(latch.count_down) == 0
            assert await store.do(latch.left) == 0

        self.run(face, work)

    def test_L1_a_mark_counts_once(self, face: str) -> None:
        async def work(store: Store) -> None:
            latch = store.locks.latch("marks", 3)
            for _ in range(3):
                assert await store.do(latch.count_down, mark="job-1") == 2
            assert await store.do(latch.count_down, mark="job-2") == 1
            await store.do(latch.reset)
            assert await store.do(latch.count_down, mark="job-1") == 2, "another round"

        self.run(face, work)

    def test_L1_counting_at_once_loses_nothing(self, face: str) -> None:
        async def work(store: Store) -> None:
            latch = store.locks.latch("many", 20)
            left = await asyncio.gather(*(store.do(store.locks.latch("many", 20).count_down) for _ in range(16)))
            assert sorted(left) == list(range(4, 20))
            assert await store.do(latch.left) == 4

        self.run(face, work)

    def test_L1_waiting_over_a_reset_is_waiting_for_the_new_round(self, face: str) -> None:
        async def work(store: Store) -> None:
            latch = store.locks.latch("reset", 2)
            await store.do(latch.count_down)
            waiter = asyncio.create_task(store.do(store.locks.latch("reset", 2).wait, PATIENCE))
            await asyncio.sleep(SETTLE)
            await store.do(latch.reset)
            assert await store.do(latch.count_down) == 1
            await asyncio.sleep(SETTLE)
            assert not waiter.done()
            assert await store.do(latch.count_down) == 0
            await store.do(latch.reset)  # at once: who waited for the round that opened passes all the same
            assert await waiter is True
            assert await store.do(latch.left) == 2
            await store.do(latch.reset, 1)
            assert await store.do(latch.count_down) == 0

        self.run(face, work)

    def test_who_counts_from_another_number_is_refused(self, face: str) -> None:
        async def work(store: Store) -> None:
            await store.do(store.locks.latch("differs", 3).count_down)
            other = store.locks.latch("differs", 4)
            for method in (other.count_down, other.left, other.wait):
                with pytest.raises(Misuse, match=r"counts from 3 .* says 4"):
                    await store.do(method)
            assert await store.do(store.locks.latch("differs", 3).left) == 2

        self.run(face, work)

    def test_numbers_without_sense_are_refused_before_anything_is_sent(self, face: str) -> None:
        async def work(store: Store) -> None:
            for count in (0, -1, True, 1.5, "3", None, 10**10):
                with pytest.raises(Misuse, match="count"):
                    store.locks.latch("bad", count)
            with pytest.raises(Misuse, match="keep"):
                store.locks.latch("bad", 1, keep=5)
            with pytest.raises(Misuse, match="name"):
                store.locks.latch("", 1)
            latch = store.locks.latch("bad", 2)
            with pytest.raises(Misuse, match="count"):
                await store.do(latch.count_down, 0)
            with pytest.raises(Misuse, match="timeout"):
                await store.do(latch.wait, -1)
            assert await store.do(latch.left) == 2

        self.run(face, work)

    def test_one_face_opens_it_for_the_other(self) -> None:
        async def main() -> None:
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                waiters = [
                    asyncio.create_task(store.do(store.locks.latch("faces", 2).wait, PATIENCE))
                    for store in (threads, tasks)
                ]
                await asyncio.sleep(SETTLE)
                for store in (threads, tasks):
                    await store.do(store.locks.latch("faces", 2).count_down)
                assert await asyncio.gather(*waiters) == [True, True]

        asyncio.run(main())


class BarrierContract(TwoFaces):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_L2_nobody_passes_before_all_have_come(self, face: str) -> None:
        async def work(store: Store) -> None:
            inside: list[int] = []

            async def party(number: int) -> int:
                place: int = await store.do(store.locks.barrier("all", 4).wait, PATIENCE)
                inside.append(number)
                return place

            early = [asyncio.create_task(party(number)) for number in range(3)]
            await asyncio.sleep(SETTLE * 2)
            assert inside == []
            assert await store.do(store.locks.barrier("all", 4).waiting) == 3
            places = await asyncio.gather(*early, party(3))
            assert sorted(places) == [0, 1, 2, 3]
            assert places[3] == 3, "who came last"
            assert await store.do(store.locks.barrier("all", 4).waiting) == 0

        self.run(face, work)

    def test_L5_it_is_used_again_and_again_and_rounds_do_not_mix(self, face: str) -> None:
        async def work(store: Store) -> None:
            rounds, done = 6, [0] * 4

            async def party(number: int) -> None:
                barrier = store.locks.barrier("cyclic", 4)
                for turn in range(1, rounds + 1):
                    done[number] = turn
                    await store.do(barrier.wait, PATIENCE)
                    assert min(done) >= turn, "passed before all had come"
                    assert max(done) <= turn + 1, "somebody is two rounds ahead"

            await asyncio.gather(*(party(number) for number in range(4)))
            assert done == [rounds] * 4

        self.run(face, work)

    def test_L2_who_is_too_many_belongs_to_the_next_round(self, face: str) -> None:
        async def work(store: Store) -> None:
            parties = [asyncio.create_task(store.do(store.locks.barrier("over", 3).wait, PATIENCE)) for _ in range(5)]
            done, pending = await asyncio.wait(parties, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 3:
                more, pending = await asyncio.wait(pending, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            await asyncio.sleep(SETTLE)
            assert sorted(task.result() for task in done) == [0, 1, 2]
            assert not any(task.done() for task in pending)
            last = await store.do(store.locks.barrier("over", 3).wait, PATIENCE)
            assert sorted([last, *(await asyncio.gather(*pending))]) == [0, 1, 2]

        self.run(face, work)

    def test_L3_L4_a_timeout_breaks_it_for_all_until_it_is_reset(self, face: str) -> None:
        async def work(store: Store) -> None:
            barrier = store.locks.barrier("broken", 3)
            patient = asyncio.create_task(store.do(store.locks.barrier("broken", 3).wait, PATIENCE))
            await asyncio.sleep(SETTLE)
            start = time.monotonic()
            with pytest.raises(BrokenBarrier, match="went away"):
                await store.do(barrier.wait, 0.2)
            assert time.monotonic() - start >= 0.2
            with pytest.raises(BrokenBarrier, match=r"waited 0\.2 s and went away; reset"):
                await patient
            assert await store.do(barrier.broken) is True
            with pytest.raises(BrokenBarrier):
                await store.do(barrier.wait, PATIENCE)
            await store.do(barrier.reset)
            assert await store.do(barrier.broken) is False
            assert sorted(await asyncio.gather(*(store.do(barrier.wait, PATIENCE) for _ in range(3)))) == [0, 1, 2]

        self.run(face, work)

    def test_L4_a_reset_tells_those_who_wait(self, face: str) -> None:
        async def work(store: Store) -> None:
            barrier = store.locks.barrier("reset", 3)
            waiters = [asyncio.create_task(store.do(store.locks.barrier("reset", 3).wait, PATIENCE)) for _ in range(2)]
            await asyncio.sleep(SETTLE)
            await store.do(barrier.reset, 2)
            for waiter in waiters:
                with pytest.raises(BrokenBarrier, match="it was reset"):
                    await waiter
            assert await store.do(barrier.broken) is False
            assert sorted(await asyncio.gather(*(store.do(barrier.wait, PATIENCE) for _ in range(2)))) == [0, 1]
            with pytest.raises(Misuse, match=r"for 2 parties .* says 3"):
                await store.do(store.locks.barrier("reset", 3).wait, PATIENCE)

        self.run(face, work)

    def test_numbers_without_sense_are_refused_before_anything_is_sent(self, face: str) -> None:
        async def work(store: Store) -> None:
            for parties in (0, -1, True, 2.0, "3", None, 257):
                with pytest.raises(Misuse, match="parties"):
                    store.locks.barrier("bad", parties)
            with pytest.raises(Misuse, match="timeout"):
                await store.do(store.locks.barrier("bad", 2).wait, float("nan"))
            assert await store.do(store.locks.barrier("bad", 1).wait, 0) == 0

        self.run(face, work)

    def test_L3_a_cancelled_party_breaks_it_at_once(self) -> None:
        async def main() -> None:
            async with self.opened("asyncio") as store:
                waiters = [
                    asyncio.create_task(store.do(store.locks.barrier("cancel", 3).wait, PATIENCE)) for _ in range(2)
                ]
                await asyncio.sleep(SETTLE)
                start = time.monotonic()
                waiters[0].cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiters[0]
                with pytest.raises(BrokenBarrier, match="CancelledError"):
                    await waiters[1]
                assert time.monotonic() - start < 1.5, "told, not found out by silence"

        asyncio.run(main())

    def test_threads_and_tasks_make_one_round(self) -> None:
        async def main() -> None:
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                for _ in range(2):
                    places = await asyncio.gather(
                        *(store.do(store.locks.barrier("faces", 4).wait, PATIENCE) for store in (threads, tasks) * 2)
                    )
                    assert sorted(places) == [0, 1, 2, 3]

        asyncio.run(main())
