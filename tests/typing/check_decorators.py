"""Checked by mypy and pyright in strict mode, never run: decorators keep the type of what they decorate."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from backstay.locks import AsyncLease, AsyncLocks, Lease, Locks
from backstay.resilience import AsyncRateLimiter, Decision, RateLimiter, Switches, protect

locks = Locks.connect("memory://", namespace="shop")
async_locks = AsyncLocks.connect("memory://", namespace="shop")
switches = Switches.connect("file:///etc/shop/switches.toml")


@locks.guard("order:{order_id}", ttl=10, wait=5)
def pay(order_id: int, *, tip: float = 0.0) -> str:
    return f"{order_id} {tip}"


@async_locks.guard("order:{order_id}")
async def pay_later(order_id: int) -> str:
    return str(order_id)


@protect("pay", limit="100/second;burst=200", key="order:{order_id}")
def limited(order_id: int) -> str:
    return str(order_id)


@protect("pay", limit="100/second")
@async_locks.guard("order:{order_id}")
async def both(order_id: int) -> str:
    return str(order_id)


@switches.degradable("recommendations", fallback=["honey"])
def recommendations(user_id: int) -> list[str]:
    return [str(user_id)]


assert_type(pay(1, tip=2.0), str)
assert_type(limited(1), str)
assert_type(recommendations(1), list[str])
limited_type: Callable[[int], str] = limited
both_type: Callable[[int], Coroutine[Any, Any, str]] = both

pay("1")  # type: ignore[arg-type]
pay(1, 2.0)  # type: ignore[call-arg]
limited()  # type: ignore[call-arg]
recommendations(user_id="1")  # type: ignore[arg-type]


async def use() -> None:
    assert_type(await pay_later(1), str)
    assert_type(await both(1), str)
    await both("1")  # type: ignore[arg-type]
    async with async_locks.mutex("order:1", ttl=10) as lease:
        assert_type(lease, AsyncLease)
    limiter = AsyncRateLimiter.connect("memory://", rate="1/second", name="pay")
    assert_type(await limiter.try_acquire("household:7"), Decision)


with locks.mutex("order:1") as lease:
    assert_type(lease, Lease)
    assert_type(lease.fence, int)
assert_type(RateLimiter.connect("memory://", rate="1/second", name="pay").try_acquire(cost=2), Decision)
