"""What a hold does at its edges: handles that are dropped, threads that end, forks, stores that do not answer."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import NotAcquired, OutcomeUnknown
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.backend import Freed


@pytest.fixture
def locks() -> Locks:
    return Locks.connect(f"memory://{uuid.uuid4().hex}")


def again(locks: Locks, **options: Any) -> Any:
    return locks.mutex("x", reentrant=True, wait=0.0, **options)


def elsewhere(work: Callable[[], Any]) -> Any:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(work()))
    thread.start()
    thread.join(10.0)
    return seen[0]


def test_O1_a_thread_that_ended_leaves_nothing_for_one_with_its_number(locks: Locks) -> None:
    kept = elsewhere(lambda: (threading.get_ident(), again(locks).acquire()))

    def refused() -> int:
        with pytest.raises(NotAcquired):
            again(locks).acquire()
        return threading.get_ident()

    assert any(elsewhere(refused) == kept[0] for _ in range(200)), "no thread got the number again"
    kept[1].release()


def test_O1_two_tasks_of_one_thread_are_two_owners_also_for_blocking_locks(locks: Locks) -> None:
    async def main() -> None:
        async def other() -> None:
            with pytest.raises(NotAcquired):
                again(locks).acquire()

        with again(locks) as lease:
            with again(locks) as inner:
                assert inner.fence == lease.fence
            await asyncio.create_task(other())

    asyncio.run(main())


def test_O1_a_handle_that_was_passed_on_may_be_released_there(locks: Locks) -> None:
    outer, inner = again(locks).acquire(), again(locks).acquire()
    elsewhere(inner.release)
    outer.check()
    elsewhere(outer.release)
    locks.mutex("x", wait=0.0).acquire().release()


def test_O1_the_two_colours_hold_each_for_themselves(locks: Locks) -> None:
    asynchronous = locks._asynchronous()

    async def main() -> None:
        with again(locks):
            with pytest.raises(NotAcquired):
                await asynchronous.mutex("x", reentrant=True, wait=0.0).acquire()

    asyncio.run(main())


def test_O3_entering_again_asks_the_store_nothing(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    with again(locks) as outer:
        backend, asked = locks._protocol.backend, list[str]()
        for name in ("take", "release", "renew"):
            answering = getattr(backend, name)

            def counted(*given: Any, _name: str = name, _answering: Any = answering) -> Any:
                asked.append(_name)
                return _answering(*given)

            monkeypatch.setattr(backend, name, counted)
        for _ in range(100):
            with again(locks) as inner:
                assert inner.fence == outer.fence
        assert asked == []
    assert asked == ["release"]


def test_N10_a_dropped_inner_handle_counts_no_more_and_a_dropped_last_one_warns(locks: Locks) -> None:
    outer = again(locks).acquire()
    again(locks).acquire()  # dropped at once
    gc.collect()
    assert len(outer.hold.inside) == 1
    outer.check()
    outer.release()
    locks.mutex("x", wait=0.0).acquire().release()
    last = again(locks).acquire()
    with pytest.warns(ResourceWarning, match=r"'x', acquired at .*test_entering_again\.py:\d+, was dropped"):
        del last
    locks.close()


def test_R6_an_unanswered_release_of_the_last_handle_may_be_repeated(
    locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = again(locks).acquire()
    backend = locks._protocol.backend
    answering = backend.release

    async def silent(*_: Any) -> Freed:
        raise OutcomeUnknown("sent and not answered")

    monkeypatch.setattr(backend, "release", silent)
    with pytest.raises(OutcomeUnknown):
        lease.release()
    with pytest.raises(LockLost):  # half given back is not held
        again(locks).acquire()
    monkeypatch.setattr(backend, "release", answering)
    lease.release()
    lease.release()
    again(locks).acquire().release()


def test_O5_a_forked_child_holds_nothing_of_its_parent(locks: Locks) -> None:
    with again(locks) as lease:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            answer = b"?"
            try:
                with pytest.raises(LockLost):
                    lease.check()
                with again(locks) as own:  # the stores of a child start empty: what it locks excludes only itself
                    answer = b"+" if own.token != lease.token else b"-"
            finally:
                os.write(writing, answer)
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"+"
        os.close(reading)
        os.close(writing)
        lease.check()


def test_O5_a_mutex_that_a_thread_held_at_the_fork_does_not_stop_the_child(locks: Locks) -> None:
    outer, inner = again(locks).acquire(), again(locks).acquire()
    with outer.hold.mutex:
        child = os.fork()
        if child == 0:
            told = 0
            signal.alarm(5)  # a child that hangs must not stay
            try:
                for handle in (inner, outer):
                    with pytest.raises(LockLost, match="parent process"):
                        handle.release()
                    told += 1
            finally:
                os._exit(0 if told == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    for handle in (inner, outer):
        handle.release()


def test_O7_a_cancelled_release_goes_through_and_may_be_repeated() -> None:
    async def main() -> None:
        async with AsyncLocks.connect(f"memory://{uuid.uuid4().hex}") as locks:
            lease = await locks.mutex("x", reentrant=True).acquire()
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # a task runs this
            with pytest.raises(asyncio.CancelledError):
                await lease.release()
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # a task runs this
            await lease.release()
            await (await locks.mutex("x", reentrant=True, wait=0.0).acquire()).release()

    asyncio.run(main())


def test_O2_a_block_inside_a_lost_one_is_not_run(locks: Locks) -> None:
    ran: list[str] = []
    with pytest.raises(LockLost):
        with again(locks, ttl=0.03, renew=False) as lease:
            assert lease.lost.wait(5.0)
            with again(locks):
                ran.append("inside a lock that was lost")
    assert ran == []
    again(locks, ttl=5.0).acquire().release()


def test_O2_an_inner_block_that_loses_it_tells_both(locks: Locks) -> None:
    with pytest.raises(LockLost) as loss:
        with again(locks, ttl=0.03, renew=False):
            with again(locks) as lease:
                assert lease.lost.wait(5.0)
    assert any("meanwhile" in note for note in loss.value.__notes__)


def test_O7_a_cancelled_acquire_leaves_nothing_to_enter() -> None:
    async def main() -> None:
        async with AsyncLocks.connect(f"memory://{uuid.uuid4().hex}") as locks:
            held = await locks.mutex("x").acquire()
            waiter = asyncio.create_task(locks.mutex("x", reentrant=True, wait=None).acquire())
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            await held.release()
            await (await locks.mutex("x", wait=0.0).acquire()).release()

    asyncio.run(main())
