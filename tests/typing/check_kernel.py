"""Checked by mypy and pyright in strict mode, never run: what users' checkers see of the kernel."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_type

from backstay.blocking import drive
from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, RateLimited, Rejected
from backstay.keys import Template
from backstay.telemetry import counter
from backstay.testing import ManualClock
from backstay.url import Url, parse


async def answer() -> int:
    return 42


def load(order_id: int) -> str:
    return str(order_id)


assert_type(drive(answer()), int)
assert_type(parse("memory://"), Url)
assert_type(Template("order:{order_id}").bind(load), Callable[[tuple[Any, ...], Mapping[str, Any]], str])

clocks: list[Clock] = [monotonic, ManualClock()]
calls = counter("rate_limiter.requests", "{request}", resource="purchase")
assert_type(calls.n, int)


def handle(error: BackstayError) -> float | None:
    if isinstance(error, Rejected):
        return assert_type(error.retry_after, float | None)
    if isinstance(error, OutcomeUnknown):
        assert_type(error.ask, dict[str, object])
    return None


as_value_error: ValueError = Misuse("ttl must be > 0 s, got 0")
RateLimited("no tokens left", retry_after=1.5)
RateLimited("no tokens left", 1.5)  # type: ignore[call-arg]  # keyword only
drive(answer)  # type: ignore[arg-type]  # a coroutine, not its function
