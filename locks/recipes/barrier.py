"""The cyclic barrier: a point that nobody passes before all have come, over all processes."""

from __future__ import annotations

from backstay.blocking import drive
from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable

from ..claims import Resource
from ..errors import BrokenBarrier
from ..leases.lease import TICK
from ..leases.protocol import PARTING, LeaseProtocol
from ..options import Duration, checked_name
from ..owners import Owners, this_process
from ..register import BEAT, Register, Seen
from ..states.barrier import (
    PARTIES,
    Arrival,
    BarrierForm,
    BarrierState,
    Pulse,
    Verdict,
    alive_for,
    arrive,
    beat,
    bury,
    desert,
    leave,
    reset,
    verdict,
    withdraw,
)
from .latch import kept, waiting
from .mutex import Reach

__all__ = ["AsyncBarrier", "Barrier", "BarrierProtocol"]

WITHIN = 10.0  # s for an operation that waits for nobody
FORM = BarrierForm()


class BarrierProtocol:
    """The steps of a barrier, written once.

    Args:
        protocol: gives the runtime and the store.
        name: of the barrier.
        parties: how many make a round.
        keep: seconds for which the untouched barrier is remembered.
        owners: names those who wait.
    """

    __slots__ = ("_alive", "_name", "_owners", "_parties", "_register", "_runtime")

    def __init__(
        self, protocol: LeaseProtocol, name: str, parties: int, keep: float, owners: Owners = this_process
    ) -> None:
        if protocol.closed:
            raise Misuse(f"barrier {name!r}: these locks were closed; connect again")
        self._runtime, self._name, self._parties, self._owners = protocol.runtime, name, parties, owners
        self._alive = alive_for(parties)
        self._register = Register(protocol.runtime, protocol.backend, Resource(name, "barrier"), FORM, keep)

    async def wait(self, timeout: float) -> int:
        visit = _Visit(self._owners.token(), Pulse(self._alive), self._runtime.now())
        until = visit.since + timeout
        try:
            index = await self._register.follow(
                lambda seen: self._decide(visit, seen, until), until, min(BEAT, self._alive / 2.5)
            )
            return await self._time_is_up(visit, timeout) if index is None else index
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(error, (Misuse, BrokenBarrier, NotAcquired)):
                await self._runtime.shield(self._go_away(visit, type(error).__name__))
            raise

    async def _decide(self, visit: _Visit, seen: Seen[BarrierState] | None, until: float) -> int | None:
        """Do what is to be done at this look; return the index once the round has passed."""
        state, now = None if seen is None else seen.state, self._runtime.now()
        if state is not None and (dead := visit.pulse.dead(state, visit.mark, now)):
            await self._register.change(lambda state, _: bury(state, dead, self._alive), self._soon(until), again=True)
            state = await self._state(until)
        if visit.arrival is None:
            if state is not None and state.leaving:
                return None
            visit.sent = True
            arrival = await self._register.change(
                lambda state, _: arrive(state, self._parties, self._name, visit.mark), self._soon(until), again=True
            )
            if arrival.broken:
                raise self._broken(arrival.broken)
            if arrival.place < 0:
                return None
            visit.arrival, visit.beaten = arrival, now
            if arrival.place + 1 < self._parties:
                return None
            state = await self._state(until)
        told, why = verdict(state, visit.arrival.round, visit.mark)
        if told is Verdict.PASSED:
            await self._leave(visit)
            return visit.arrival.place
        self._raise(told, why)
        if now - visit.beaten >= min(BEAT, self._alive / 2.5) * 0.7:
            visit.beaten = now
            await self._register.change(lambda state, _: beat(state, visit.mark), self._soon(until), again=True)
        return None

    async def _time_is_up(self, visit: _Visit, timeout: float) -> int:
        arrival = visit.arrival
        if arrival is None:
            raise NotAcquired(
                f"barrier {self._name!r}: the round before was still being left after {timeout:g} s; "
                "nothing was changed, come again"
            )
        why = f"one of its parties waited {timeout:g} s and went away"
        told, said = await self._register.change(
            lambda state, _: desert(state, arrival.round, visit.mark, why), self._runtime.now() + WITHIN
        )
        if told is Verdict.PASSED:
            return arrival.place
        self._raise(told, said)
        raise self._broken(why)

    async def _leave(self, visit: _Visit) -> None:
        """Go out; where the store does not answer, the others see after a while that nobody is left here."""
        try:
            await self._register.change(
                lambda state, _: leave(state, visit.mark), self._runtime.now() + WITHIN, again=True
            )
        except (Unavailable, OutcomeUnknown):
            return

    async def _go_away(self, visit: _Visit, why: str) -> None:
        """Break the round that is being left without an end; where the store does not answer, silence breaks it."""
        if not visit.sent:
            return
        why = f"one of its parties went away ({why})"
        try:
            await self._register.change(
                lambda state, _: withdraw(state, visit.mark, why), self._runtime.now() + PARTING, again=True
            )
        except (Unavailable, OutcomeUnknown):
            return

    async def reset(self, parties: int) -> None:
        await self._register.change(lambda state, _: reset(state, parties), self._runtime.now() + WITHIN)

    async def waiting(self) -> int:
        seen = await self._register.look(self._runtime.now() + WITHIN)
        return 0 if seen is None else len(seen.state.arrived)

    async def broken(self) -> bool:
        seen = await self._register.look(self._runtime.now() + WITHIN)
        return seen is not None and bool(seen.state.broken)

    async def _state(self, until: float) -> BarrierState | None:
        seen = await self._register.look(self._soon(until))
        return None if seen is None else seen.state

    def _soon(self, until: float) -> float:
        """Return the time until which one exchange may go on: also with no time left a look gets an answer."""
        return max(until, self._runtime.now() + WITHIN) if until - self._runtime.now() <= TICK else until

    def _raise(self, told: Verdict, why: str) -> None:
        if told is Verdict.BROKEN:
            raise self._broken(why)
        if told is Verdict.FORGOTTEN:
            raise OutcomeUnknown(
                f"barrier {self._name!r}: this process was stopped for so long that nobody remembers "
                "whether its round passed",
                ask={"barrier": self._name},
            )

    def _broken(self, why: str) -> BrokenBarrier:
        return BrokenBarrier(f"barrier {self._name!r} is broken: {why}; reset() begins anew")


class _Visit:
    """One who waits."""

    __slots__ = ("arrival", "beaten", "mark", "pulse", "sent", "since")

    def __init__(self, mark: str, pulse: Pulse, since: float) -> None:
        self.mark, self.pulse, self.since = mark, pulse, since
        self.arrival: Arrival | None = None
        self.sent = False  # the store may have this mark
        self.beaten = since


class _Terms:
    """What both makes are told, checked before anything is sent."""

    __slots__ = ("_keep", "_name", "_parties", "_reach")

    def __init__(self, reach: Reach, name: str, parties: int, keep: Duration) -> None:
        self._reach = reach
        self._name, self._parties, self._keep = checked_name(name), _parties(parties, name), kept(keep)

    @property
    def name(self) -> str:
        """The name of the barrier."""
        return self._name

    @property
    def parties(self) -> int:
        """How many make a round."""
        return self._parties

    def _core(self) -> BarrierProtocol:
        return BarrierProtocol(self._reach(), self._name, self._parties, self._keep)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} for {self._parties}>"


class Barrier(_Terms):
    """A point that nobody passes before all parties have come, over all processes that use the same store.

    What is guaranteed: nobody passes before `parties` have arrived; all who arrived in a round pass it or all of
    them are told that it broke, also where one of them dies (after 5 s; with more than 50 parties, after a tenth
    of a second for each). It is used again and again: who comes while a round is still being left waits outside
    until all have left. More than `parties` make the next round. What is not: that a party which was stopped after
    all had come runs at the same time as the others.
    """

    __slots__ = ()

    def wait(self, timeout: Duration | None = None) -> int:
        """Wait until all have come, and return the place in which this party did: 0 for the first.

        Raises:
            BrokenBarrier: one who had come died, was interrupted or went away after its timeout, this one included;
                or it was broken before, or reset meanwhile.
            NotAcquired: the time was up before this party could come in, since the round before was still being
                left; nothing was changed.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; for the others the round breaks unless it has passed.
        """
        return drive(self._core().wait(waiting(timeout)))

    def reset(self, parties: int | None = None) -> None:
        """Begin anew, for another number of `parties` if one is given; those who wait are told that it broke."""
        self._parties = self._parties if parties is None else _parties(parties, self._name)
        drive(self._core().reset(self._parties))

    def waiting(self) -> int:
        """Return how many have come and wait for the others."""
        return drive(self._core().waiting())

    def broken(self) -> bool:
        """Return whether it is broken, so that it must be reset."""
        return drive(self._core().broken())


class AsyncBarrier(_Terms):
    """A point that nobody passes before all parties have come, over all processes that use the same store.

    What is guaranteed: nobody passes before `parties` have arrived; all who arrived in a round pass it or all of
    them are told that it broke, also where one of them dies (after 5 s; with more than 50 parties, after a tenth
    of a second for each). It is used again and again: who comes while a round is still being left waits outside
    until all have left. More than `parties` make the next round. What is not: that a party which was stopped after
    all had come runs at the same time as the others.
    """

    __slots__ = ()

    async def wait(self, timeout: Duration | None = None) -> int:
        """Wait until all have come, and return the place in which this party did: 0 for the first.

        Raises:
            BrokenBarrier: one who had come died, was interrupted or went away after its timeout, this one included;
                or it was broken before, or reset meanwhile.
            NotAcquired: the time was up before this party could come in, since the round before was still being
                left; nothing was changed.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; for the others the round breaks unless it has passed.
        """
        return await self._core().wait(waiting(timeout))

    async def reset(self, parties: int | None = None) -> None:
        """Begin anew, for another number of `parties` if one is given; those who wait are told that it broke."""
        self._parties = self._parties if parties is None else _parties(parties, self._name)
        await self._core().reset(self._parties)

    async def waiting(self) -> int:
        """Return how many have come and wait for the others."""
        return await self._core().waiting()

    async def broken(self) -> bool:
        """Return whether it is broken, so that it must be reset."""
        return await self._core().broken()


def _parties(value: int, name: str) -> int:
    if type(value) is not int or not 0 < value <= PARTIES:
        raise Misuse(f"barrier {name!r}: parties must be a whole number from 1 to {PARTIES}, got {value!r}")
    return value
