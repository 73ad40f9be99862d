"""The contract of a store of read-write locks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost

from .faces import LONG, PATIENCE, SHORT, Face, LocksContract, queued, soon

__all__ = ["ReadWriteContract"]


async def _read(locks: Face, name: str, **terms: Any) -> Any:
    return await locks.call(locks.locks.read_write(name).read(**{"ttl": LONG, **terms}).acquire)


async def _write(locks: Face, name: str, **terms: Any) -> Any:
    return await locks.call(locks.locks.read_write(name).write(**{"ttl": LONG, **terms}).acquire)


class ReadWriteContract(LocksContract):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_RW1_many_read_or_one_writes(self, face: str) -> None:
        async def work(locks: Face) -> None:
            readers = [await _read(locks, "rw1", wait=0.0) for _ in range(5)]
            assert len({reader.token for reader in readers}) == 5
            assert not any(reader.writes for reader in readers)
            for _ in range(5):
                with pytest.raises(NotAcquired, match="read-write lock 'rw1' is held by"):
                    await _write(locks, "rw1", wait=0.0)
                await locks.release(readers.pop())
            writer = await _write(locks, "rw1", wait=0.0)
            assert writer.writes
            for ask in (_read, _write):
                with pytest.raises(NotAcquired):
                    await ask(locks, "rw1", wait=0.0)
            await locks.release(writer)
            await locks.release(await _read(locks, "rw1", wait=0.0))

        self.run(face, work)

    def test_RW1_a_reader_whose_time_is_over_frees_only_itself(self, face: str) -> None:
        async def work(locks: Face) -> None:
            brief = await _read(locks, "ttl", ttl=SHORT, renew=False)
            long = await _read(locks, "ttl")
            assert await locks.lost(brief, PATIENCE)
            await locks.pause(SHORT * 0.2)
            with pytest.raises(NotAcquired):
                await _write(locks, "ttl", wait=0.0)
            long.check()
            with pytest.raises(LockLost):
                await locks.release(brief)
            with pytest.raises(NotAcquired):
                await _write(locks, "ttl", wait=0.0)
            await locks.release(long)
            await locks.release(await _write(locks, "ttl", wait=0.0))

        self.run(face, work)

    def test_RW2_readers_that_come_later_starve_no_writer_and_writers_no_reader(self, face: str) -> None:
        async def work(locks: Face) -> None:
            order: list[str] = []

            async def come(name: str, ask: Any) -> None:
                lease = await ask(locks, "rw2", wait=LONG)
                order.append(name)
                await locks.pause(0.01)
                await locks.release(lease)

            first = await _read(locks, "rw2")
            tasks: list[asyncio.Task[None]] = []
            for name, ask in (("writer 1", _write), ("reader", _read), ("writer 2", _write)):
                tasks.append(asyncio.create_task(come(name, ask)))
                await queued(tasks[-1])
            with pytest.raises(NotAcquired):
                await _read(locks, "rw2", wait=0.0)  # it would fit beside the first reader, but a writer waits
            await locks.release(first)
            await asyncio.gather(*map(soon, tasks))
            assert order == ["writer 1", "reader", "writer 2"]

        self.run(face, work)

    def test_RW2_readers_that_wait_come_in_together(self, face: str) -> None:
        async def work(locks: Face) -> None:
            writer = await _write(locks, "together")
            tasks = [asyncio.create_task(_read(locks, "together", wait=LONG)) for _ in range(3)]
            for task in tasks:
                await queued(task)
            start = time.monotonic()
            await locks.release(writer)
            readers = [await soon(task) for task in tasks]
            assert time.monotonic() - start < 1.0  # all by the one release: without, each would wait a beat of 2 s
            assert all(reader.is_valid() for reader in readers)
            assert len({reader.fence for reader in readers}) == 3
            for reader in readers:
                await locks.release(reader)

        self.run(face, work)

    def test_RW3_a_writer_becomes_a_reader_without_a_gap(self, face: str) -> None:
        async def work(locks: Face) -> None:
            writer = await _write(locks, "rw3")
            fence = writer.fence
            reader = asyncio.create_task(_read(locks, "rw3", wait=LONG))
            await queued(reader)
            late = asyncio.create_task(_write(locks, "rw3", wait=LONG))
            await queued(late)
            await locks.call(writer.downgrade)
            assert not writer.writes
            assert writer.fence == fence
            beside = await soon(reader)
            await queued(late)
            writer.check()
            await locks.call(writer.downgrade)  # a second time changes nothing
            await locks.release(beside)
            await queued(late)
            await locks.release(writer)
            last = await soon(late)
            assert last.fence > beside.fence > fence
            await locks.release(last)

        self.run(face, work)

    def test_RW3_upgrading_is_refused_at_once_so_two_who_try_do_not_deadlock(self, face: str) -> None:
        async def work(locks: Face) -> None:
            entered = 0

            async def try_to_upgrade(mine: Face) -> None:
                lock = mine.locks.read_write("up", ttl=LONG, wait=LONG)

                async def body(lease: Any) -> None:
                    nonlocal entered
                    entered += 1
                    until = time.monotonic() + PATIENCE
                    while entered < 2 and time.monotonic() < until:
                        await mine.pause(0.01)
                    start = time.monotonic()
                    with pytest.raises(Misuse, match="would wait for itself"):
                        await mine.inside(lock.write(), body)
                    with pytest.raises(Misuse, match="would wait for itself"):
                        await mine.call(lock.write().acquire)
                    assert time.monotonic() - start < PATIENCE
                    lease.check()

                await mine.inside(lock.read(), body)

            await asyncio.gather(locks.alone(try_to_upgrade), locks.alone(try_to_upgrade))
            assert entered == 2
            await locks.release(await _write(locks, "up", wait=0.0))

        self.run(face, work)

    def test_RW3_blocks_of_one_thread_or_task_nest(self, face: str) -> None:
        async def work(locks: Face) -> None:
            async def nest(mine: Face) -> None:
                lock = mine.locks.read_write("nest", ttl=LONG, wait=0.0)
                seen: list[int] = []

                async def innermost(lease: Any) -> None:
                    seen.append(lease.fence)
                    lease.check()

                async def inner(lease: Any) -> None:
                    seen.append(lease.fence)
                    with pytest.raises(Misuse, match="outermost"):
                        await mine.call(lease.downgrade)
                    await mine.inside(lock.read(), innermost)
                    lease.check()

                async def outer(lease: Any) -> None:
                    seen.append(lease.fence)
                    await mine.inside(lock.write(), inner)
                    lease.check()
                    await mine.call(lease.downgrade)
                    await mine.inside(lock.read(), innermost)
                    with pytest.raises(Misuse, match="would wait for itself"):
                        await mine.inside(lock.write(), inner)
                    lease.check()

                await mine.inside(lock.write(), outer)
                assert len(seen) == 4
                assert len(set(seen)) == 1

            await locks.alone(nest)
            await locks.release(await _write(locks, "nest", wait=0.0))

        self.run(face, work)

    def test_RW3_reading_again_does_not_wait_behind_a_writer_that_waits_for_me(self, face: str) -> None:
        async def work(locks: Face) -> None:
            writer: list[asyncio.Task[Any]] = []
            loop = asyncio.get_running_loop()

            def begin_to_write() -> None:
                writer.append(loop.create_task(_write(locks, "again", wait=LONG)))

            async def again(mine: Face) -> int:
                lock = mine.locks.read_write("again", ttl=LONG, wait=0.0)

                async def inner(lease: Any) -> int:
                    return int(lease.fence)

                async def outer(lease: Any) -> int:
                    loop.call_soon_threadsafe(begin_to_write)
                    await mine.pause(0.1)
                    assert await mine.inside(lock.read(), inner) == lease.fence
                    return int(lease.fence)

                return await mine.inside(lock.read(), outer)

            fence = await locks.alone(again)
            lease = await soon(writer[0])
            assert lease.fence > fence
            await locks.release(lease)

        self.run(face, work)

    def test_RW5_a_writer_comes_in_after_one_that_was_downgraded_has_gone(self, face: str) -> None:
        async def work(locks: Face) -> None:
            for _ in range(3):
                writer = await _write(locks, "rw5", wait=0.0)
                await locks.call(writer.downgrade)
                await locks.release(writer)

        self.run(face, work)

    def test_RW6_a_reader_that_releases_twice_frees_nobody_else(self, face: str) -> None:
        async def work(locks: Face) -> None:
            one, other = await _read(locks, "rw6"), await _read(locks, "rw6")
            await locks.release(one)
            await locks.release(one)
            with pytest.raises(NotAcquired):
                await _write(locks, "rw6", wait=0.0)
            other.check()
            await locks.release(other)
            await locks.release(await _write(locks, "rw6", wait=0.0))

        self.run(face, work)

    def test_a_lost_writer_cannot_downgrade(self, face: str) -> None:
        async def work(locks: Face) -> None:
            writer = await _write(locks, "lost", ttl=SHORT, renew=False)
            assert await locks.lost(writer, PATIENCE)
            with pytest.raises(LockLost):
                await locks.call(writer.downgrade)

        self.run(face, work)

    def test_other_kinds_of_the_same_name_never_meet(self, face: str) -> None:
        async def work(locks: Face) -> None:
            writer = await _write(locks, "kinds")
            await locks.release(await locks.acquire("kinds", wait=0.0))
            writer.check()
            await locks.release(writer)

        self.run(face, work)

    def test_nobody_is_beside_a_writer_and_nobody_starves(self, face: str) -> None:
        async def work(locks: Face) -> None:
            readers: set[int] = set()
            writers: set[int] = set()
            done = beside = 0

            async def reads(lease: Any) -> None:
                nonlocal beside
                assert not writers, "a reader beside a writer"
                readers.add(lease.fence)
                beside = max(beside, len(readers))
                await asyncio.sleep(0.02)
                assert not writers, "a writer beside a reader"
                readers.discard(lease.fence)

            async def writes(lease: Any) -> None:
                assert not writers, "two writers"
                assert not readers, "a writer beside a reader"
                writers.add(lease.fence)
                await asyncio.sleep(0)
                assert not readers, "a reader beside a writer"
                writers.discard(lease.fence)

            async def worker(number: int) -> None:
                nonlocal done
                lock = locks.locks.read_write("busy", ttl=LONG, wait=LONG)
                for turn in range(8):
                    if (turn + number) % 3:
                        await locks.inside(lock.read(), reads)
                    else:
                        await locks.inside(lock.write(), writes)
                    done += 1

            await asyncio.gather(*(worker(number) for number in range(6)))
            assert done == 48
            assert beside > 1

        self.run(face, work)
