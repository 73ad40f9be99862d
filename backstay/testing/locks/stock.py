"""The contract of segmented stock: what every store promises, on both faces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost
from backstay.testing._two_faces import PATIENCE, Store, TwoFaces

__all__ = ["StockContract"]


class StockContract(TwoFaces):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_G5_what_is_held_comes_back_unless_it_is_committed(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("apples", segments=4)
            await store.do(stock.fill, 10)
            assert tuple(await store.do(stock.levels)) == (10, 10, 0, 0)
            sold = await store.do(stock.take, 2, ttl=60.0)
            assert (sold.quantity, sold.is_valid()) == (2, True)
            back = await store.do(stock.take, 1, ttl=60.0)
            assert tuple(await store.do(stock.levels)) == (10, 7, 3, 0)
            for _ in range(2):
                await store.do(sold.commit)
                await store.do(back.give_back)
            assert tuple(await store.do(stock.levels)) == (10, 8, 0, 2)
            await store.do(sold.give_back)
            assert tuple(await store.do(stock.levels)) == (10, 8, 0, 2), "what is sold stays sold"
            with pytest.raises(LockLost, match="given back"):
                await store.do(back.commit)

        self.run(face, work)

    def test_G5_a_portion_spills_over_segments_all_or_nothing(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("spill", segments=4)
            await store.do(stock.fill, 10)
            most = await store.do(stock.take, 7, ttl=60.0)
            assert most.quantity == 7
            with pytest.raises(NotAcquired, match="has 3 left, and 4 are wanted"):
                await store.do(stock.take, 4)
            assert tuple(await store.do(stock.levels)) == (10, 3, 7, 0), "a refusal leaves nothing behind"
            rest = await store.do(stock.take, 3, ttl=60.0)
            with pytest.raises(NotAcquired, match="has 0 left"):
                await store.do(stock.take)
            await store.do(most.commit)
            await store.do(rest.commit)
            assert tuple(await store.do(stock.levels)) == (10, 0, 0, 10)

        self.run(face, work)

    def test_G5_what_a_dead_process_held_comes_back_by_the_stores_clock(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("dead", segments=2)
            await store.do(stock.fill, 2)
            lost = await store.do(stock.take, 2, ttl=0.3)
            with pytest.raises(NotAcquired):
                await store.do(stock.take)
            await asyncio.sleep(0.35)
            assert not lost.is_valid()
            for method in (lost.commit, lambda: lost.extend(5.0)):
                with pytest.raises(LockLost, match="its time was over"):
                    await store.do(method)
            again = await store.do(stock.take, 2, ttl=60.0)
            await store.do(lost.give_back)
            await store.do(again.commit)
            assert tuple(await store.do(stock.levels)) == (2, 0, 0, 2)

        self.run(face, work)

    def test_it_can_be_held_longer(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("longer", segments=2)
            await store.do(stock.fill, 2)
            portion = await store.do(stock.take, 2, ttl=0.4)
            await store.do(portion.extend, 60.0)
            await asyncio.sleep(0.5)
            assert portion.is_valid()
            with pytest.raises(NotAcquired):
                await store.do(stock.take)
            await store.do(portion.commit)

        self.run(face, work)

    def test_a_block_that_does_not_commit_gives_back(self) -> None:
        locks = self.connect()
        stock = locks.stock("block", segments=2)
        stock.fill(3)
        with stock.take(2):
            assert stock.left() == 1
        assert stock.left() == 3
        with pytest.raises(LookupError), stock.take(2):
            raise LookupError
        assert stock.left() == 3
        with stock.take(2) as portion:
            portion.commit()
        assert (stock.left(), stock.total()) == (1, 3)
        locks.close()

    def test_filling_again_completes_and_changes_nothing(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("fill", segments=3)
            with pytest.raises(Misuse, match="not filled"):
                await store.do(stock.take)
            with pytest.raises(Misuse, match="not filled"):
                await store.do(stock.levels)
            await asyncio.gather(*(store.do(store.locks.stock("fill", segments=3).fill, 11) for _ in range(3)))
            await store.do((await store.do(stock.take, 5)).commit)
            await store.do(stock.fill, 11)
            assert tuple(await store.do(stock.levels)) == (11, 6, 0, 5)
            with pytest.raises(Misuse, match="filled with 11 before"):
                await store.do(stock.fill, 12)
            with pytest.raises(Misuse, match="has 3 segments"):
                await store.do(store.locks.stock("fill", segments=2).take)
            await store.do(stock.add, 4)
            assert tuple(await store.do(stock.levels)) == (15, 10, 0, 5)

        self.run(face, work)

    def test_G5_many_who_take_at_once_sell_each_unit_once(self) -> None:
        async def buy(store: Store, quantity: int) -> int:
            bought = 0
            while True:
                try:
                    portion: Any = await store.do(
                        store.locks.stock("busy", segments=4).take, quantity, ttl=60.0, wait=0.05
                    )
                except NotAcquired:
                    return bought
                if bought % 3 == 2:
                    await store.do(portion.give_back)
                else:
                    await store.do(portion.commit)
                bought += 1

        async def main() -> None:
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                stock = tasks.locks.stock("busy", segments=4)
                await tasks.do(stock.fill, 30)
                await asyncio.wait_for(
                    asyncio.gather(*(buy(store, number) for store in (threads, tasks) for number in (1, 2, 3))),
                    6 * PATIENCE,
                )
                levels = await tasks.do(stock.levels)
                assert levels.sold + levels.left == 30
                assert levels.held == 0
                assert levels.left == 0, "those who want one unit take the last"

        asyncio.run(main())

    def test_who_waits_gets_what_comes_back(self, face: str) -> None:
        async def work(store: Store) -> None:
            stock = store.locks.stock("wait", segments=2)
            await store.do(stock.fill, 1)
            first = await store.do(stock.take, ttl=60.0)
            waiting = asyncio.create_task(store.do(stock.take, 1, wait=PATIENCE))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await store.do(first.give_back)
            await store.do((await waiting).commit)

        self.run(face, work)

    def test_numbers_without_sense_are_refused_before_anything_is_sent(self, face: str) -> None:
        async def work(store: Store) -> None:
            for segments in (0, -1, 2.0, True, 1025):
                with pytest.raises(Misuse, match="segments"):
                    store.locks.stock("bad", segments=segments)
            stock = store.locks.stock("bad", segments=2)
            for total in (-1, 1.5, "3"):
                with pytest.raises(Misuse, match="total"):
                    await store.do(stock.fill, total)
            for quantity in (0, -1, True, 1.5):
                with pytest.raises(Misuse, match="quantity"):
                    await store.do(stock.take, quantity)
            for ttl in (0, -1, float("nan")):
                with pytest.raises(Misuse, match="ttl"):
                    await store.do(stock.take, 1, ttl=ttl)

        self.run(face, work)
