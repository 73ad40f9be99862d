"""The steps of a segmented stock, written once: fill, take with spill-over, commit, give back, count.

Each segment is a document of its own, so that many who take at once rarely meet. A portion that one segment can serve
is taken there in one write; else it is gathered from several, all or nothing. "There is not enough" is said only after
a consistent look: all segments were read twice with the same versions, so that at the moment between the two readings
all of them were as they were read (G5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable

from ..claims import Resource
from ..errors import LockLost
from ..leases.lease import TICK, deadline
from ..leases.protocol import LeaseProtocol
from ..owners import Owners, this_process
from ..register import Next, Register, Seen
from ..states.stock import (
    SegmentForm,
    SegmentState,
    add,
    checked,
    commit,
    extend,
    fill,
    give_back,
    take,
    touch,
)

__all__ = ["Hold", "Levels", "StockProtocol"]

WITHIN = 10.0  # s for an operation that waits for nobody
A = TypeVar("A")

POLL, POLL_CAP = 0.05, 1.0  # s between two tries of one who waits for stock
FORM = SegmentForm()


class Levels(NamedTuple):
    """A stock at one moment: total = left + held + sold."""

    total: int
    left: int
    """What can be taken."""
    held: int
    """What is held in portions that are neither committed nor given back nor over."""
    sold: int
    """What was committed."""


class Hold:
    """A portion that was taken: which segments hold how much of it, until when by this host's clock."""

    __slots__ = ("mark", "over", "parts", "ttl", "until")

    def __init__(self, mark: str, parts: dict[int, int], ttl: float, until: float) -> None:
        self.mark, self.parts, self.ttl, self.until = mark, parts, ttl, until
        self.over = ""  # `committed` or `given back`


class StockProtocol:
    """The steps over one stock.

    Args:
        protocol: gives the runtime and the store.
        name: of the stock.
        segments: how many documents it is split over.
        owners: names portions.
    """

    __slots__ = ("_name", "_owners", "_registers", "_runtime", "_segments")

    def __init__(self, protocol: LeaseProtocol, name: str, segments: int, owners: Owners = this_process) -> None:
        if protocol.closed:
            raise Misuse(f"stock {name!r}: these locks were closed; connect again")
        self._runtime, self._name, self._segments, self._owners = protocol.runtime, name, segments, owners
        self._registers = [
            Register(protocol.runtime, protocol.backend, Resource(f"{name}#{number}", "stock"), FORM, None)
            for number in range(segments)
        ]

    async def fill(self, total: int) -> None:
        until = self._until(WITHIN)
        for number in range(self._segments):
            await self._fill(number, total, until)

    async def _fill(self, number: int, total: int, until: float) -> None:
        await self._registers[number].change(
            lambda state, _: fill(state, self._name, self._segments, total, number), until, again=True
        )

    async def add(self, quantity: int) -> None:
        number = self._first()
        await self._change(number, lambda state, _: add(state, quantity), self._until(WITHIN))

    async def take(self, quantity: int, ttl: float, wait: float) -> Hold:
        until, pause = self._until(wait), POLL
        while True:
            mark = self._owners.token()
            hold = Hold(mark, {}, ttl, 0.0)
            try:
                left = await self._gather(hold, quantity)
            except GeneratorExit:
                raise
            except BaseException:
                await self._runtime.shield(self._scatter(hold, range(self._segments)))
                raise
            if left is None:
                return hold
            remaining = until - self._runtime.now()
            if remaining <= TICK:
                raise NotAcquired(
                    f"stock {self._name!r} has {left} left, and {quantity} are wanted; "
                    "what others hold and do not commit comes back"
                )
            await self._runtime.sleep(min(remaining, pause * self._runtime.uniform(0.5, 1.0)))
            pause = min(2.0 * pause, POLL_CAP)

    async def _gather(self, hold: Hold, quantity: int) -> int | None:
        """Take the portion; return None, or what is left in a consistent look where it is too little."""
        until, touched = self._until(WITHIN), set[int]()
        while True:
            first = self._first()
            order = [(first + step) % self._segments for step in range(self._segments)]
            for least in (quantity, 1) if quantity > 1 else (1,):  # from one segment if one has it all, else from any
                for number in order:
                    missing = quantity - sum(hold.parts.values())
                    sent = self._runtime.now()
                    got = await self._take(number, hold, min(least, missing), missing, until)
                    if got:
                        hold.parts[number] = got
                        hold.until = min(hold.until or deadline(sent, hold.ttl), deadline(sent, hold.ttl))
                    if got == missing:
                        return None
            await self._scatter(hold, list(hold.parts))
            hold.parts.clear()
            hold.mark = self._owners.token()  # the one before has an end
            seen = await self._look(until, touched)
            left = sum(each.state.at(each.server_time).free for each in seen)
            if left < quantity:
                return left

    async def _take(self, number: int, hold: Hold, least: int, most: int, until: float) -> int:
        return await self._change(
            number, lambda state, now: take(state, hold.mark, least, most, hold.ttl, now), until, again=True
        )

    async def _look(self, until: float, touched: set[int]) -> list[Seen[SegmentState]]:
        """Return all segments as they were at one moment.

        Args:
            until: the time when to give up.
            touched: the segments whose clock was asked for already.
        """
        before = await self._read_all(until)
        while True:
            after = await self._read_all(until)
            if [each.version for each in before] == [each.version for each in after]:
                still = {
                    number
                    for number, (one, other) in enumerate(zip(before, after, strict=True))
                    if other.state.held and one.server_time == other.server_time and number not in touched
                }
                if not still:
                    return after
                for number in still:  # perhaps this store tells its clock only with writes, and something is over
                    touched.add(number)
                    await self._change(number, lambda state, _: touch(state), until, again=True)
                after = await self._read_all(until)
            elif until - self._runtime.now() <= TICK:
                raise Unavailable(f"stock {self._name!r} is changed by many at once; nothing was taken by this call")
            before = after

    async def _read_all(self, until: float) -> list[Seen[SegmentState]]:
        found: list[Seen[SegmentState]] = []
        for register in self._registers:
            seen = await register.look(until)
            checked(None if seen is None else seen.state, self._name, self._segments)
            assert seen is not None
            found.append(seen)
        return found

    async def commit(self, hold: Hold) -> None:
        now = self._runtime.now()
        if hold.over == "committed":
            return
        if hold.over or now >= hold.until:
            raise self._lost(hold, "expired" if not hold.over else hold.over)
        if len(hold.parts) > 1:  # so that no part ends between two commits
            await self.extend(hold, hold.ttl)
        until = self._until(WITHIN)
        for number in hold.parts:
            if not await self._change(number, lambda state, clock: commit(state, hold.mark, clock), until, again=True):
                raise self._lost(hold, "expired")
        hold.over = "committed"

    async def give_back(self, hold: Hold) -> None:
        if not hold.over:
            await self._scatter(hold, list(hold.parts))
            hold.over = "given back"

    async def extend(self, hold: Hold, ttl: float) -> None:
        sent = self._runtime.now()
        if hold.over or sent >= hold.until:
            raise self._lost(hold, hold.over or "expired")
        until = self._until(WITHIN)
        for number in hold.parts:
            if not await self._change(number, lambda state, now: extend(state, hold.mark, ttl, now), until, again=True):
                raise self._lost(hold, "expired")
        hold.until = max(hold.until, deadline(sent, ttl))

    async def _scatter(self, hold: Hold, numbers: list[int] | range) -> None:
        """Give back what a portion may hold; where the store does not answer, it comes back by its end."""
        until = self._until(WITHIN)
        for number in numbers:
            try:
                await self._change(number, lambda state, now: give_back(state, hold.mark, now), until, again=True)
            except (Unavailable, OutcomeUnknown):
                return

    async def levels(self) -> Levels:
        seen = [each.state.at(each.server_time) for each in await self._look(self._until(WITHIN), set())]
        return Levels(
            sum(each.total for each in seen),
            sum(each.free for each in seen),
            sum(each.taken for each in seen),
            sum(each.sold for each in seen),
        )

    async def _change(
        self,
        number: int,
        step: Callable[[SegmentState, float], Next[SegmentState, A]],
        until: float,
        again: bool = False,
    ) -> A:
        return await self._registers[number].change(
            lambda state, now: step(checked(state, self._name, self._segments), now), until, again=again
        )

    def now(self) -> float:
        """Return this host's clock."""
        return self._runtime.now()

    def _first(self) -> int:
        """Return a segment to begin with, so that callers spread."""
        return int(self._runtime.uniform(0.0, self._segments)) % self._segments

    def _until(self, seconds: float) -> float:
        return self._runtime.now() + seconds

    def _lost(self, hold: Hold, reason: str) -> LockLost:
        what = "its time was over" if reason == "expired" else f"it was {reason}"
        return LockLost(
            f"portion of stock {self._name!r} is not held any more: {what}; what it held is free for others",
            lock=self._name,
            reason=reason,
        )
