"""What the faces do beyond the contract: telemetry, the guard's types and names, leases that are dropped, the end."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from backstay import telemetry
from backstay.errors import NotAcquired
from backstay.locks import AsyncLocks, LockLost, Locks, current_lease
from backstay.locks.leases.keepers import loop_keepers
from backstay.testing import measured


@pytest.fixture
def locks() -> Locks:
    return Locks.connect(f"memory://{uuid.uuid4().hex}", namespace="face")


def test_the_guard_keeps_name_signature_and_colour(locks: Locks) -> None:
    @locks.guard("order:{order_id}")
    def pay(order_id: int, *, note: str = "") -> float:
        """Pays."""
        return order_id * 1.5

    @locks.guard("order:{order_id}")
    async def pay_async(order_id: int, *, note: str = "") -> float:
        return order_id * 1.5

    assert (pay.__name__, pay.__doc__) == ("pay", "Pays.")
    assert list(inspect.signature(pay).parameters) == ["order_id", "note"]
    assert inspect.iscoroutinefunction(pay_async)
    assert not inspect.iscoroutinefunction(pay)
    assert pay(2) == asyncio.run(pay_async(2)) == 3.0


def test_the_guard_serves_methods_and_nests(locks: Locks) -> None:
    class Shop:
        @locks.guard("shelf:{product}", wait=0.0)
        def sell(self, product: str) -> list[str]:
            return [current_lease().name, *(self.sell("b") if product == "a" else []), current_lease().name]

    assert Shop().sell("a") == ["shelf:a", "shelf:b", "shelf:b", "shelf:a"]


def test_the_guard_of_asyncio_locks_serves_both_colours_on_one_store() -> None:
    locks = AsyncLocks.connect(f"memory://{uuid.uuid4().hex}")

    @locks.guard("x", wait=0.0)
    def plain() -> int:
        return current_lease().fence

    @locks.guard("x", wait=0.0)
    async def asynchronous() -> tuple[int, bool]:
        with pytest.raises(NotAcquired):
            await asyncio.to_thread(plain)
        return current_lease().fence, True

    assert asyncio.run(asynchronous()) == (plain() - 1, True)


def test_the_guard_lets_errors_pass_and_frees(locks: Locks) -> None:
    @locks.guard("x", wait=0.0)
    def fail() -> None:
        raise LookupError("mine")

    for _ in range(2):
        with pytest.raises(LookupError, match="mine"):
            fail()


def test_what_is_counted(locks: Locks) -> None:
    with measured() as seen:
        with locks.mutex("x"):
            with pytest.raises(NotAcquired):
                locks.mutex("x", wait=0.0).acquire()
        lease = locks.mutex("x", ttl=0.02, renew=False).acquire()
        assert lease.lost.wait(5.0)
    which = {"backend": "memory", "resource": "face"}
    assert seen.count("lock.acquisitions", result="acquired", **which) == 2
    assert seen.count("lock.acquisitions", result="not_acquired", **which) == 1
    assert seen.count("lock.losses", **which) == 1


def test_names_of_locks_never_become_attributes(locks: Locks) -> None:
    secret = uuid.uuid4().hex
    with locks.mutex(secret):
        pass
    assert secret not in repr(telemetry.snapshot())


def test_the_keeper_is_on_the_list_of_background_work(locks: Locks) -> None:
    with locks.mutex("x"):
        assert any(work.name == "backstay-locks-keeper" and work.alive for work in telemetry.background())


def test_N10_a_dropped_lease_warns_once_and_a_released_one_never(locks: Locks) -> None:
    lease = locks.mutex("x").acquire()
    with pytest.warns(ResourceWarning, match=r"'x', acquired at .*test_face\.py:\d+, was dropped") as caught:
        del lease  # by the last reference, without a collection
    gc.collect()
    assert len(caught) == 1
    lease = locks.mutex("y").acquire()
    lease.release()
    del lease
    gc.collect()


def test_a_mutex_is_shared_by_threads_and_used_again(locks: Locks) -> None:
    mutex = locks.mutex("shared", wait=0.0)
    with mutex as first:
        with pytest.raises(NotAcquired):
            mutex.acquire()
    with mutex as second:
        assert second.fence > first.fence
    assert mutex._entered == []


def test_reprs_say_what_and_where(locks: Locks) -> None:
    assert repr(locks) == "<Locks 'face' at memory://>"
    assert repr(locks.mutex("x")) == "<Mutex 'x' at memory://>"
    with locks.mutex("x") as lease:
        assert repr(lease) == f"<Lease of lock 'x' fence={lease.fence} held>"
    assert repr(lease).endswith("released>")


def test_a_loss_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(LockLost("gone", lock="x", fence=7, reason="expired")))
    assert (str(error), error.lock, error.fence, error.reason) == ("gone", "x", 7, "expired")


def test_awaiting_the_loss_of_a_lease(locks: Locks) -> None:
    async def main() -> list[bool]:
        asynchronous = AsyncLocks.connect(f"memory://{uuid.uuid4().hex}")
        lease = await asynchronous.mutex("x", ttl=0.03, renew=False).acquire()
        lost = await lease.lost
        other = await asynchronous.mutex("y").acquire()
        waiter = asyncio.ensure_future(other.lost.wait())
        await asyncio.sleep(0)
        await other.release()
        told = asyncio.Event()

        async def listener() -> None:
            told.set()

        lease.lost.call(listener)
        await asyncio.wait_for(told.wait(), 5.0)
        return [lost, await waiter]

    assert asyncio.run(main()) == [True, False]


def test_loops_that_ended_are_forgotten() -> None:
    locks = AsyncLocks.connect(f"memory://{uuid.uuid4().hex}")

    async def once() -> None:
        async with locks.mutex("x", ttl=30.0):
            pass

    for _ in range(5):
        asyncio.run(once())
    assert len(locks._protocols) <= 1
    assert sum(loop.is_closed() for loop in loop_keepers) <= 1


def test_a_loss_is_logged_with_lock_and_fence(locks: Locks, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "backstay.locks"):
        lease = locks.mutex("x", ttl=0.02, renew=False).acquire()
        assert lease.lost.wait(5.0)
    assert f"lock 'x' (fence {lease.fence}) lost: expired" in caplog.text


def test_O6_an_interpreter_that_ends_gives_back_and_does_not_hang() -> None:
    code = (
        "import threading, logging; from backstay.locks import Locks\n"
        "logging.disable(logging.CRITICAL)\n"
        "locks = Locks.connect('memory://', namespace='end')\n"
        "lease = locks.mutex('x', ttl=600).acquire()\n"
        "lease.lost.call(lambda: print('told', flush=True))\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "told\n"  # the interpreter waits for it: a daemon thread cut in a print is fatal
    assert "Traceback" not in done.stderr
