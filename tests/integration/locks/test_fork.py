"""Fork: a child is another owner, and never touches what its parent holds (O5)."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest
import redis

from backstay.errors import NotAcquired
from backstay.locks import AsyncLocks, LockLost, Locks


def in_child(work: Callable[[], object], timeout: float = 20.0) -> str:
    """Run `work` in a forked child and return what it returned, or its traceback."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(work())
        except BaseException:
            text = traceback.format_exc()
        os.write(writer, text.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    timer = threading.Timer(timeout, os.kill, (pid, 9))
    timer.start()
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    timer.cancel()
    return text or "the child hung and was killed"


@pytest.fixture
def locks(redis_url: str) -> Iterator[Locks]:
    with Locks.connect(redis_url, namespace="fork") as locks:
        yield locks


def test_O5_a_child_disowns_the_inherited_lease_and_the_parent_keeps_it(locks: Locks, redis_url: str) -> None:
    lease = locks.mutex("order:7", ttl=30.0).acquire()

    def child() -> str:
        assert not lease.is_valid()
        assert lease.lost.is_set()
        with pytest.raises(LockLost, match="parent"):
            lease.check()
        with pytest.raises(LockLost, match="parent"):
            lease.release()
        with pytest.raises(NotAcquired):
            locks.mutex("order:7", wait=0.0).acquire()
        return "good"

    assert in_child(child) == "good"
    lease.check()
    owner = redis.Redis.from_url(redis_url).get("backstay:fork:{order:7}:owner")
    assert owner == f"{lease.token}|{lease.fence}".encode()
    lease.extend(60.0)
    lease.release()


def test_O5_a_child_that_leaves_the_parents_block_frees_nothing(locks: Locks, redis_url: str) -> None:
    with locks.mutex("order:8", ttl=30.0) as lease:

        def child() -> str:
            lease.__class__  # the child has its own copy of the lease
            try:
                with locks.mutex("order:9", ttl=30.0, wait=0.0) as own:
                    return f"{own.token != lease.token} {own.token.split('-')[-3] == str(os.getpid())}"
            finally:
                assert not lease.is_valid()

        assert in_child(child) == "True True"
        assert redis.Redis.from_url(redis_url).exists("backstay:fork:{order:8}:owner")
        lease.check()


def test_O5_children_lock_and_renew_on_their_own(locks: Locks) -> None:
    with locks.mutex("warm"):  # connections, a keeper and a mailbox exist in the parent

        def child() -> str:
            with locks.mutex("mine", ttl=0.6) as lease:
                assert not lease.lost.wait(1.0), "the keeper of the child does not run"
                return str(lease.is_valid())

        assert in_child(child) == "True"


def test_O5_forks_beside_threads_at_full_load(locks: Locks) -> None:
    stop, inside, overlaps = threading.Event(), [0], [0]
    failures: list[BaseException] = []

    def load() -> None:
        try:
            while not stop.is_set():
                with locks.mutex("busy", wait=20.0):
                    inside[0] += 1
                    overlaps[0] += inside[0] != 1
                    inside[0] -= 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:

        def child() -> str:
            for number in range(3):
                with locks.mutex(f"child:{number}", wait=0.0) as lease:
                    lease.check()
            with locks.mutex("busy", wait=20.0) as lease:
                lease.check()
            return "good"

        assert [in_child(child) for _ in range(12)] == ["good"] * 12
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert overlaps == [0]


def test_O5_memory_stores_start_empty_in_a_child() -> None:
    locks = Locks.connect("memory://fork-test", namespace="fork")
    with locks.mutex("x") as lease:

        def child() -> str:
            with locks.mutex("x", wait=0.0) as own:
                return f"{own.is_valid()} {lease.is_valid()}"

        assert in_child(child) == "True False"
        lease.check()


def test_O5_asyncio_in_a_child(redis_url: str) -> None:
    locks = AsyncLocks.connect(redis_url, namespace="fork")

    async def hold_and_fork() -> None:
        lease = await locks.mutex("loop", ttl=30.0).acquire()

        def child() -> str:
            async def main() -> str:
                with pytest.raises(NotAcquired):
                    await locks.mutex("loop", wait=0.0).acquire()
                async with locks.mutex("other") as own:
                    return f"{own.is_valid()} {lease.is_valid()}"

            # The parent's loop is running in this copy as well; a child that goes on needs a thread of its own.
            result: list[str] = []
            thread = threading.Thread(target=lambda: result.append(asyncio.run(main())))
            thread.start()
            thread.join()
            return result[0]

        assert in_child(child) == "True False"
        lease.check()
        await lease.release()
        await locks.close()

    asyncio.run(hold_and_fork())
