"""What the kernel itself costs: the drive of a coroutine, the clock, a key template; and a control."""

from __future__ import annotations

import time
from collections.abc import Iterator

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.keys import Template

from .harness import Case


def cases() -> Iterator[Case]:
    yield Case(name="control: a function beside itself", floor=_plain, ours=_plain, target=1.01, clock="cpu")
    yield Case(name="control: a coroutine beside itself", floor=_step, ours=_step, target=1.01, clock="cpu")
    yield Case(name="drive of a coroutine that never suspends", floor=_plain, ours=lambda: drive(_step()), clock="cpu")
    yield Case(name="monotonic clock that counts suspend", floor=time.monotonic, ours=monotonic, clock="cpu")
    key = Template("order:{order_id}").bind(_order)
    yield Case(
        name="key template, beside an f-string", floor=lambda: _by_hand(7), ours=lambda: key((7,), {}), clock="cpu"
    )


def _plain() -> int:
    return 1


async def _step() -> int:
    return 1


def _order(order_id: int) -> int:
    return order_id


def _by_hand(order_id: int) -> str:
    return f"order:{order_id}"
