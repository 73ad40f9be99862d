"""Checked by mypy and pyright in strict mode, never run: what each recipe gives, in both colours."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import MappingProxyType
from typing import Any, assert_type

from backstay.locks import (
    AsyncLease,
    AsyncLocks,
    AsyncMultiLease,
    AsyncMutex,
    AsyncPermits,
    AsyncReadWriteLease,
    Lease,
    Locks,
    MultiLease,
    Mutex,
    Options,
    Permits,
    ReadWriteLease,
)

locks = Locks.connect("memory://", require="fenced")
tasks = AsyncLocks.connect("memory://", require="lease")
agreed: Options = {"ttl": timedelta(seconds=10), "wait": None, "max_hold": 60.0}

Locks.connect("memory://", require="safe")  # type: ignore[arg-type]
locks.mutex("x", tll=10)  # type: ignore[call-arg]
locks.mutex("x", ttl="10")  # type: ignore[arg-type]
locks.semaphore("x")  # type: ignore[call-arg]
locks.guard("x", side="both")  # type: ignore[arg-type]


def blocking() -> None:
    assert_type(locks.mutex("x", **agreed), Mutex)
    assert_type(locks.mutex("x", reentrant=True).acquire(), Lease)
    with locks.mutex("x") as lease:
        assert_type(lease, Lease)
        assert_type(lease.detach(), str)
    with locks.read_write("x").read(wait=0) as reader:
        assert_type(reader, ReadWriteLease)
        assert_type(reader.writes, bool)
    with locks.semaphore("x", permits=4) as one, locks.semaphore("x", permits=None).several(2) as two:
        assert_type(one, Permits)
        assert_type(two.permits, int)
    assert_type(locks.semaphore("x", permits=4).acquire(3), Permits)
    with locks.segmented("x", segments=16).lock("a", 7, b"c", ttl=1.0) as stripes:
        assert_type(stripes, Lease)
    locks.segmented("x", segments=16).lock(1.5)  # type: ignore[arg-type]
    with locks.multi("a", "b") as together:
        assert_type(together, MultiLease)
        assert_type(together.fences, MappingProxyType[str, int])
    with locks.attach("{}") as attached:
        assert_type(attached, Lease)


async def asynchronous() -> None:
    assert_type(tasks.mutex("x", reentrant=True, **agreed), AsyncMutex)
    assert_type(await tasks.mutex("x", reentrant=True).acquire(), AsyncLease)
    async with tasks.mutex("x") as lease:
        assert_type(lease, AsyncLease)
        assert_type(await lease.detach(), str)
    async with tasks.read_write("x").write() as writer:
        assert_type(writer, AsyncReadWriteLease)
        await writer.downgrade()
    async with tasks.semaphore("x", permits=4) as one:
        assert_type(one, AsyncPermits)
    assert_type(await tasks.semaphore("x", permits=4).resize(5), int)
    async with tasks.segmented("x", segments=16).whole() as stripes:
        assert_type(stripes, AsyncLease)
    async with tasks.multi("a", "b") as together:
        assert_type(together, AsyncMultiLease)
    async with await tasks.attach("{}") as attached:
        assert_type(attached, AsyncLease)


@locks.guard("order:{order_id}", reentrant=True, max_hold=60.0)
def pay(order_id: int, *, tip: float = 0.0) -> str:
    return f"{order_id} {tip}"


@tasks.guard("order:{order_id}", side="read", cancel_on_loss=True)
async def look(order_id: int) -> str:
    return str(order_id)


class Shop:
    @locks.guard("stock:{product}", permits=4)
    def sell(self, product: str) -> int:
        return len(product)


assert_type(pay(1, tip=2.0), str)
assert_type(Shop().sell("tea"), int)
look_type: Callable[[int], Coroutine[Any, Any, str]] = look
pay("1")  # type: ignore[arg-type]
Shop().sell(1)  # type: ignore[arg-type]
