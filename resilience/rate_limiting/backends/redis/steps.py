"""Steps on Redis that are not on the hot path, written once for both makes: several buckets, debt, refunds, change.

A bucket that was kept under another rate is worked out here, in whole numbers, and written back only if it is still
what was read; then the step is asked again. That is two more exchanges for a key, once for each change of a rate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ...backend import StoreFailed, Taken
from .terms import OTHER_RATE, Terms
from .wire import CARRY, REFUND, Script, bulk, many

__all__ = ["Ask", "Step", "give", "take_all"]

Step: TypeAlias = tuple[Terms, str, int]
"""Of which terms, whose bucket, how many tokens."""

_TRIES = 16  # of a bucket whose rate two deployments keep changing


class Ask(Protocol):
    """Runs a script on the server of its first key."""

    def __call__(
        self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script, /
    ) -> Awaitable[list[Any]]:
        """Return its reply, or raise StoreFailed."""
        ...


async def take_all(ask: Ask, steps: Sequence[Step], ahead: float, deadline: float) -> tuple[bool, list[Taken]]:
    """Take tokens from all buckets or from none; return whether they were taken, and what each bucket said."""
    ahead_us = round(ahead * 1_000_000)
    keys = [terms.key(key) for terms, key, _ in steps]
    parts = [bulk(key.encode()) for key in keys] + [terms.six(cost) for terms, _, cost in steps]
    body = b"".join(parts) + bulk(b"%d" % ahead_us)
    answer = await _asked(ask, steps, keys, body, many(len(steps)), deadline)
    now, moments = answer[3], answer[4:]
    taken = [
        terms.taken(moments[2 * place], moments[2 * place + 1], now, ahead_us)
        for place, (terms, _, _) in enumerate(steps)
    ]
    return answer[0] == 1, taken


async def give(ask: Ask, terms: Terms, key: str, cost: int, until: int, deadline: float) -> bool:
    """Give tokens back (see `backend.Reserving`)."""
    steps = [(terms, key, cost)]
    answer = await _asked(ask, steps, [terms.key(key)], terms.refund(key, cost, until), REFUND, deadline)
    return bool(answer[0] == 1)


async def _asked(
    ask: Ask, steps: Sequence[Step], keys: Sequence[str], body: bytes, script: Script, deadline: float
) -> list[Any]:
    for _ in range(_TRIES):
        answer = await ask(body, steps[0][0].moment, deadline, script)
        if answer[0] != OTHER_RATE:
            return answer
        place = answer[1] - 1 if len(keys) > 1 else 0
        terms = steps[place][0]
        await ask(terms.carried(keys[place], answer[4], answer[3]), terms.moment, deadline, CARRY)
    raise StoreFailed("busy", "the rate of this bucket is changed all the time")
