"""A stock split over segments, which many can take from at once: blocking and asyncio."""

from __future__ import annotations

from types import TracebackType

from backstay.blocking import drive
from backstay.errors import Misuse

from ..options import Duration, checked_name, seconds
from .latch import waiting
from .mutex import Reach
from .stocking import Hold, Levels, StockProtocol

__all__ = ["AsyncPortion", "AsyncStock", "Levels", "Portion", "Stock"]

SEGMENTS = 1024
LARGEST = 10**12


class _Portion:
    """What can be asked of a portion without asking the store."""

    __slots__ = ("_core", "_hold", "quantity")

    def __init__(self, core: StockProtocol, hold: Hold) -> None:
        self._core, self._hold = core, hold
        self.quantity = sum(hold.parts.values())

    @property
    def mark(self) -> str:
        """The name of the portion at the store."""
        return self._hold.mark

    def is_valid(self) -> bool:
        """Return whether it is still held, by this host's clock; computed when it is asked for."""
        return not self._hold.over and self._core.now() < self._hold.until

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.quantity} {self._hold.over or 'held'}>"


class Portion(_Portion):
    """So many units of a stock, held until they are committed or given back, or until their time is over.

    with stock.take(3, ttl=30) as portion:
        charge(customer)
        portion.commit()

    Leaving the block without a commit gives them back.
    """

    __slots__ = ()

    def commit(self) -> None:
        """Take the units out of the stock for good; a second call does nothing.

        A portion that came from several segments is committed segment by segment: where the store stops answering
        in the midst of it, call again.

        Raises:
            LockLost: its time was over, or it was given back.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        drive(self._core.commit(self._hold))

    def give_back(self) -> None:
        """Put the units back; a second call does nothing, and neither does one after a commit."""
        drive(self._core.give_back(self._hold))

    def extend(self, ttl: Duration) -> None:
        """Hold the units for `ttl` seconds from now; never shorter than before.

        Raises:
            LockLost: its time was over.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        drive(self._core.extend(self._hold, _ttl(ttl)))

    def __enter__(self) -> Portion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()


class AsyncPortion(_Portion):
    """So many units of a stock, held until they are committed or given back, or until their time is over.

    async with await stock.take(3, ttl=30) as portion:
        await charge(customer)
        await portion.commit()

    Leaving the block without a commit gives them back.
    """

    __slots__ = ()

    async def commit(self) -> None:
        """Take the units out of the stock for good; a second call does nothing.

        A portion that came from several segments is committed segment by segment: where the store stops answering
        in the midst of it, call again.

        Raises:
            LockLost: its time was over, or it was given back.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        await self._core.commit(self._hold)

    async def give_back(self) -> None:
        """Put the units back; a second call does nothing, and neither does one after a commit."""
        await self._core.give_back(self._hold)

    async def extend(self, ttl: Duration) -> None:
        """Hold the units for `ttl` seconds from now; never shorter than before.

        Raises:
            LockLost: its time was over.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        await self._core.extend(self._hold, _ttl(ttl))

    async def __aenter__(self) -> AsyncPortion:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.give_back()


class _Terms:
    """What both makes are told, checked before anything is sent."""

    __slots__ = ("_name", "_reach", "_segments")

    def __init__(self, reach: Reach, name: str, segments: int) -> None:
        self._reach, self._name = reach, checked_name(name)
        self._segments = _whole(segments, "segments", SEGMENTS)
        if len(name) > 500:
            raise Misuse(f"the name of a stock has at most 500 characters, got {len(name)}")

    @property
    def name(self) -> str:
        """The name of the stock."""
        return self._name

    def _core(self) -> StockProtocol:
        return StockProtocol(self._reach(), self._name, self._segments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} in {self._segments} segments>"


class Stock(_Terms):
    """A number of units split over segments, so that many take from it at once; none is lost, none is sold twice.

    What is guaranteed: left + held + sold is the total at every moment, whoever dies; what is held and neither
    committed nor given back comes back when its time is over, by the store's clock; "too little is left" is said
    only where it was true of all segments at one moment. What is not: order among those who take.
    """

    __slots__ = ()

    def fill(self, total: int) -> None:
        """Put `total` units in, once: every worker may call this at its start, and calling again completes it.

        Raises:
            Misuse: it was filled with another number, or has another number of segments.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        drive(self._core().fill(_whole(total, "total", LARGEST, 0)))

    def add(self, quantity: int) -> None:
        """Add units.

        Raises:
            Misuse: it was not filled.
            Unavailable: nothing was added.
            OutcomeUnknown: they may have been added.
        """
        drive(self._core().add(_whole(quantity, "quantity", LARGEST)))

    def take(self, quantity: int = 1, *, ttl: Duration = 30.0, wait: Duration | None = 0.0) -> Portion:
        """Hold `quantity` units, all or nothing.

        Args:
            quantity: 1 or more.
            ttl: seconds for which they are held unless they are committed, given back or extended.
            wait: seconds to wait for others to give back; 0 looks once, None waits for ever. Nobody is served first.

        Raises:
            NotAcquired: fewer than that were left, at one moment, and nothing was changed.
            Misuse: it was not filled.
            Unavailable: nothing was taken.
            OutcomeUnknown: the store stopped answering; what was taken comes back after `ttl`.
        """
        core = self._core()
        return Portion(core, drive(core.take(_whole(quantity, "quantity", LARGEST), _ttl(ttl), waiting(wait))))

    def levels(self) -> Levels:
        """Return the total and what is left, held and sold, all at one moment."""
        return drive(self._core().levels())

    def left(self) -> int:
        """Return what can be taken."""
        return self.levels().left

    def total(self) -> int:
        """Return all units that were ever put in."""
        return self.levels().total


class AsyncStock(_Terms):
    """A number of units split over segments, so that many take from it at once; none is lost, none is sold twice.

    What is guaranteed: left + held + sold is the total at every moment, whoever dies; what is held and neither
    committed nor given back comes back when its time is over, by the store's clock; "too little is left" is said
    only where it was true of all segments at one moment. What is not: order among those who take.
    """

    __slots__ = ()

    async def fill(self, total: int) -> None:
        """Put `total` units in, once: every worker may call this at its start, and calling again completes it.

        Raises:
            Misuse: it was filled with another number, or has another number of segments.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        await self._core().fill(_whole(total, "total", LARGEST, 0))

    async def add(self, quantity: int) -> None:
        """Add units.

        Raises:
            Misuse: it was not filled.
            Unavailable: nothing was added.
            OutcomeUnknown: they may have been added.
        """
        await self._core().add(_whole(quantity, "quantity", LARGEST))

    async def take(self, quantity: int = 1, *, ttl: Duration = 30.0, wait: Duration | None = 0.0) -> AsyncPortion:
        """Hold `quantity` units, all or nothing.

        Args:
            quantity: 1 or more.
            ttl: seconds for which they are held unless they are committed, given back or extended.
            wait: seconds to wait for others to give back; 0 looks once, None waits for ever. Nobody is served first.

        Raises:
            NotAcquired: fewer than that were left, at one moment, and nothing was changed.
            Misuse: it was not filled.
            Unavailable: nothing was taken.
            OutcomeUnknown: the store stopped answering; what was taken comes back after `ttl`.
        """
        core = self._core()
        return AsyncPortion(core, await core.take(_whole(quantity, "quantity", LARGEST), _ttl(ttl), waiting(wait)))

    async def levels(self) -> Levels:
        """Return the total and what is left, held and sold, all at one moment."""
        return await self._core().levels()

    async def left(self) -> int:
        """Return what can be taken."""
        return (await self.levels()).left

    async def total(self) -> int:
        """Return all units that were ever put in."""
        return (await self.levels()).total


def _whole(value: int, what: str, most: int, least: int = 1) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Misuse(f"{what} must be a whole number from {least} to {most}, got {value!r}")
    return value


def _ttl(value: Duration) -> float:
    given = seconds(value, "ttl")
    if not 0.0 < given <= 30 * 86400.0:
        raise Misuse(f"ttl must be > 0 s and at most 30 days, got {given:g}; 30 is a good start")
    return given
