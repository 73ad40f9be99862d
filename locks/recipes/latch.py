"""The latch: a gate that opens when a count has come down to 0, over all processes."""

from __future__ import annotations

from math import inf

from backstay.blocking import drive
from backstay.errors import Misuse

from ..claims import Resource
from ..leases.lease import TICK
from ..leases.protocol import LeaseProtocol
from ..options import Duration, checked_name, seconds
from ..register import Register, Seen
from ..states.latch import LatchForm, LatchState, agreed, count_down, reset
from .mutex import Reach

__all__ = ["AsyncLatch", "Latch", "LatchProtocol"]

WITHIN = 10.0  # s for an operation that waits for nobody
FORM = LatchForm()


class LatchProtocol:
    """The steps of a latch, written once.

    Args:
        protocol: gives the runtime and the store.
        name: of the latch.
        count: what each round begins with.
        keep: seconds for which the untouched latch is remembered.
    """

    __slots__ = ("_count", "_name", "_register", "_runtime")

    def __init__(self, protocol: LeaseProtocol, name: str, count: int, keep: float) -> None:
        if protocol.closed:
            raise Misuse(f"latch {name!r}: these locks were closed; connect again")
        self._runtime, self._name, self._count = protocol.runtime, name, count
        self._register = Register(protocol.runtime, protocol.backend, Resource(name, "latch"), FORM, keep)

    async def count_down(self, n: int, mark: str | None) -> int:
        return await self._register.change(
            lambda state, _: count_down(state, self._count, self._name, n, mark), self._until(WITHIN),
            again=mark is not None,
        )  # fmt: skip

    async def left(self) -> int:
        seen = await self._register.look(self._until(WITHIN))
        return self._state(seen).left

    async def wait(self, timeout: float) -> bool:
        until = self._until(timeout)
        seen = await self._register.look(self._until(max(timeout, WITHIN)))
        state = self._state(seen)
        began = state.round
        if not state.left:
            return True
        if self._runtime.now() >= until - TICK:
            return False

        async def opened(seen: Seen[LatchState] | None) -> bool | None:
            return self._state(seen).lets_pass(began) or None

        return bool(await self._register.follow(opened, until))

    async def reset(self, count: int) -> None:
        self._count = count
        await self._register.change(lambda state, _: reset(state, count), self._until(WITHIN))

    def _state(self, seen: Seen[LatchState] | None) -> LatchState:
        return agreed(None if seen is None else seen.state, self._count, self._name)

    def _until(self, timeout: float) -> float:
        return self._runtime.now() + timeout


class _Terms:
    """What both makes are told, checked before anything is sent."""

    __slots__ = ("_count", "_keep", "_name", "_reach")

    def __init__(self, reach: Reach, name: str, count: int, keep: Duration) -> None:
        self._reach = reach
        self._name, self._count, self._keep = checked_name(name), _count(count, name), kept(keep)

    @property
    def name(self) -> str:
        """The name of the latch."""
        return self._name

    def _core(self) -> LatchProtocol:
        return LatchProtocol(self._reach(), self._name, self._count, self._keep)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} from {self._count}>"


class Latch(_Terms):
    """A gate that opens when a count has come down to 0, for all processes that use the same store and namespace.

    The count never goes below 0, and one who comes late passes at once. It stays open until `reset`. A lost hint
    costs those who wait 2 s and no more. The latch does not know who counts: one that dies without counting down
    leaves the others waiting, for their timeout.
    """

    __slots__ = ()

    def count_down(self, n: int = 1, *, mark: str | None = None) -> int:
        """Count down and return what is left.

        Args:
            n: by how much, 1 or more; what goes below 0 is dropped.
            mark: what is being counted, such as a job's id: in one round a mark counts once, however often it
                is sent. A round remembers 2,000 of them.

        Raises:
            Misuse: `n` is below 1, or the latch counts from another number at the store.
            Unavailable: nothing was counted.
            OutcomeUnknown: it may have been counted; with a mark, calling again is safe.
        """
        return drive(self._core().count_down(_count(n, self._name), mark))

    def wait(self, timeout: Duration | None = None) -> bool:
        """Wait until the latch is open, at most `timeout` seconds; return whether it is.

        One who waits while the latch is reset before it opened goes on waiting, for the new round.

        Raises:
            Unavailable, OutcomeUnknown: the time is up and the store did not answer at the last look.
        """
        return drive(self._core().wait(waiting(timeout)))

    def left(self) -> int:
        """Return what is still to be counted."""
        return drive(self._core().left())

    def reset(self, count: int | None = None) -> None:
        """Begin a new round, from `count` if one is given; this also closes a latch that is open."""
        self._count = self._count if count is None else _count(count, self._name)
        drive(self._core().reset(self._count))


class AsyncLatch(_Terms):
    """A gate that opens when a count has come down to 0, for all processes that use the same store and namespace.

    The count never goes below 0, and one who comes late passes at once. It stays open until `reset`. A lost hint
    costs those who wait 2 s and no more. The latch does not know who counts: one that dies without counting down
    leaves the others waiting, for their timeout.
    """

    __slots__ = ()

    async def count_down(self, n: int = 1, *, mark: str | None = None) -> int:
        """Count down and return what is left.

        Args:
            n: by how much, 1 or more; what goes below 0 is dropped.
            mark: what is being counted, such as a job's id: in one round a mark counts once, however often it
                is sent. A round remembers 2,000 of them.

        Raises:
            Misuse: `n` is below 1, or the latch counts from another number at the store.
            Unavailable: nothing was counted.
            OutcomeUnknown: it may have been counted; with a mark, calling again is safe.
        """
        return await self._core().count_down(_count(n, self._name), mark)

    async def wait(self, timeout: Duration | None = None) -> bool:
        """Wait until the latch is open, at most `timeout` seconds; return whether it is.

        One who waits while the latch is reset before it opened goes on waiting, for the new round.

        Raises:
            Unavailable, OutcomeUnknown: the time is up and the store did not answer at the last look.
        """
        return await self._core().wait(waiting(timeout))

    async def left(self) -> int:
        """Return what is still to be counted."""
        return await self._core().left()

    async def reset(self, count: int | None = None) -> None:
        """Begin a new round, from `count` if one is given; this also closes a latch that is open."""
        self._count = self._count if count is None else _count(count, self._name)
        await self._core().reset(self._count)


def _count(value: int, name: str) -> int:
    if type(value) is not int or not 0 < value <= 10**9:
        raise Misuse(f"latch {name!r}: a count is a whole number from 1 to 1,000,000,000, got {value!r}")
    return value


def kept(keep: Duration) -> float:
    """Return the seconds for which an untouched document is remembered.

    Raises:
        Misuse: they are less than a minute.
    """
    given = seconds(keep, "keep")
    if not 60.0 <= given < inf:
        raise Misuse(f"keep must be at least 60 s, got {given:g}; 7 days is the default")
    return given


def waiting(timeout: Duration | None) -> float:
    """Return the seconds of a wait; None waits for ever.

    Raises:
        Misuse: they are negative.
    """
    given = inf if timeout is None else seconds(timeout, "timeout")
    if not given >= 0.0:
        raise Misuse(f"timeout must be >= 0 s, got {given:g}; 0 looks once, None waits for ever")
    return given
