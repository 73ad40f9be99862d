"""Elections as people use them: one leader at a time, its term, and the news, blocking and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from math import inf
from typing import Any, NamedTuple, TypeVar

from backstay.blocking import drive
from backstay.errors import Misuse
from backstay.runtime import Runtime

from ..leases.loss import AsyncLoss, Loss
from ..leases.protocol import LeaseProtocol
from ..options import checked_name
from ..owners import readable, this_process
from ..recipes.mutex import Reach
from ..register import BEAT, Seen
from ..states.news import News, NewsState, since
from .campaign import Campaign, Candidacy, Ending, Terms, news, seat
from .leadership import AsyncLeadership, AsyncOver, Leadership, Over
from .standing import Standing

__all__ = ["ASYNCIO_COLOUR", "THREAD_COLOUR", "AsyncElection", "Election", "Leader"]

T = TypeVar("T")

WITHIN = 10.0  # s for a question that waits for nobody


class Leader(NamedTuple):
    """Who leads, as the store has it at this moment."""

    candidate: str
    term: int
    left: float | None
    """Seconds until its lease ends unless it is renewed; None where it lives with a session."""


async def _called(runtime: Runtime, over: Over | AsyncOver, body: Callable[[], Coroutine[Any, Any, T]]) -> Ending[T]:
    """Run a plain body in this thread, which nothing can interrupt."""
    try:
        return Ending(await body())
    except Exception as error:
        return Ending(error=error)


async def _beside(runtime: Runtime, over: Over | AsyncOver, body: Callable[[], Coroutine[Any, Any, T]]) -> Ending[T]:
    """Run a body in a task of its own, cancel it when the leadership is over, and wait until it has really ended."""
    ending: Ending[T] = Ending()

    async def contained() -> None:
        try:
            ending.value = await body()
        except asyncio.CancelledError as error:
            ending.error = None if over.is_set() else error
        except Exception as error:
            ending.error = error

    job = runtime.spawn(contained, name="backstay-locks-leader")
    over.call(job.cancel)
    try:
        await job.join()
    except GeneratorExit:
        raise
    except BaseException:
        job.cancel()
        await runtime.shield(job.join())
        raise
    return ending


THREAD_COLOUR = Candidacy(
    over=lambda runtime, grant: Over(runtime, grant, Loss(runtime, grant)), leadership=Leadership, run=_called
)
ASYNCIO_COLOUR = Candidacy(
    over=lambda runtime, grant: AsyncOver(runtime, grant, AsyncLoss(runtime, grant)),
    leadership=AsyncLeadership,
    run=_beside,
)


async def leader(protocol: LeaseProtocol, name: str) -> Leader | None:
    """Ask who holds the seat; the news know what it calls itself."""
    if protocol.closed:
        raise Misuse(f"election {name!r}: these locks were closed; connect again")
    survey = await protocol.backend.inspect(seat(name), protocol.backend.patience)
    if not survey.holders:
        return None
    holder = survey.holders[0]
    seen = await news(protocol, name).look(protocol.runtime.now() + WITHIN)
    known = seen is not None and seen.state.last.term == holder.fence
    return Leader(
        seen.state.last.candidate if seen is not None and known else readable(holder.token), holder.fence, holder.left
    )


async def next_news(protocol: LeaseProtocol, name: str, after: int | None, wait: float) -> list[News]:
    """Return the news after `after`, the latest alone where that is None; none when `wait` seconds are over."""

    async def fresh(seen: Seen[NewsState] | None) -> list[News] | None:
        if protocol.closed:
            raise Misuse(f"election {name!r}: these locks were closed; connect again")
        state = None if seen is None else seen.state
        if after is None:
            return None if state is None else [state.last]
        return since(state, after) or None

    return await news(protocol, name).follow(fresh, protocol.runtime.now() + wait, BEAT) or []


class _Candidate:
    """What both makes are told, checked before anything is sent."""

    __slots__ = ("_candidate", "_name", "_reach", "_standing", "_terms")

    def __init__(self, reach: Reach, standing: Standing, name: str, candidate: str | None, terms: Terms) -> None:
        self._reach, self._standing, self._terms = reach, standing, terms
        self._name = checked_name(name)
        self._candidate = None if candidate is None else checked_name(candidate)
        if len(name) + len("election:") > 512 or (candidate is not None and len(candidate) > 256):
            raise Misuse("the name of an election has at most 503 characters, and a candidate's at most 256")

    @property
    def name(self) -> str:
        """The name of the election."""
        return self._name

    @property
    def candidate(self) -> str:
        """What the news call this candidate: `host-pid` unless it was given a name."""
        return self._candidate or readable(this_process.token())

    def stop(self) -> None:
        """Ask every candidate that runs through this object to resign and stand no more; returns at once."""
        for campaign in self._standing.of(self):
            campaign.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} as {self.candidate!r}>"


class Election(_Candidate):
    """One leader at a time, over all processes that use the same store and namespace.

        election = locks.election("scheduler", ttl=15)

        def lead(leadership):
            while not leadership.lost.wait(1.0):
                work(fence=leadership.term)

        election.run(lead)

    What is guaranteed: at most one *valid* leadership at a time (with the assumptions of a mutex); terms that rise;
    a leader that loses its lease, or is asked to stop, is told at once, and neither gives the seat to another nor
    stands again before its work has really ended. What is not: that a process which was stopped notices in time;
    have the term checked where the leader writes. A thread cannot be interrupted: work that never looks at
    `leadership.lost` runs on beside the next leader once its lease is lost.
    """

    __slots__ = ()

    def run(self, body: Callable[[Leadership], T], *, stop_on: Iterable[int] = ()) -> T | None:
        """Stand for election; run `body(leadership)` whenever elected, until it returns in a term that was not lost.

        A body that returns has resigned; one that was ended by a loss stands again, held down if that happens
        again and again.

        Args:
            body: looks at `leadership.lost` or calls `leadership.check()`, and returns when it is over.
            stop_on: signals, such as `signal.SIGTERM`, on which to resign and return; from the main thread only.

        Returns:
            What the body returned; None where the candidate was asked to stop.

        Raises:
            Misuse: the locks were closed.
            whatever the body raises, after the seat was given back.
        """

        async def call(leadership: Leadership) -> T:
            return body(leadership)

        campaign = Campaign(self._reach(), self._name, self.candidate, self._terms, THREAD_COLOUR)
        with self._standing.entered(self, campaign), _in_threads(stop_on, campaign.stop):
            return drive(campaign.run(call))

    def leader(self) -> Leader | None:
        """Return who leads, as the store has it now; None where nobody does."""
        return drive(leader(self._reach(), self._name))

    def observe(self, wait: float | None = None) -> Generator[News, None, None]:
        """Yield the news: the latest at once, then each one in order, without repeats also after a reconnection.

        The latest always comes. Of more than 32 in one go the oldest may be missed: look at `number`.

        Args:
            wait: seconds without news after which this ends; None goes on for ever.
        """
        protocol, after = self._reach(), None
        while found := drive(next_news(protocol, self._name, after, inf if wait is None else wait)):
            yield from found
            after = found[-1].number


class AsyncElection(_Candidate):
    """One leader at a time, over all processes that use the same store and namespace.

        election = locks.election("scheduler", ttl=15)

        async def lead(leadership):
            while True:
                await work(fence=leadership.term)

        await election.run(lead)

    What is guaranteed: at most one *valid* leadership at a time (with the assumptions of a mutex); terms that rise;
    a leader that loses its lease, or is asked to stop, is cancelled at once, and neither gives the seat to another nor
    stands again before its work has really ended. What is not: that a process which was stopped notices in time;
    have the term checked where the leader writes.
    """

    __slots__ = ()

    async def run(
        self, body: Callable[[AsyncLeadership], Coroutine[Any, Any, T]], *, stop_on: Iterable[int] = ()
    ) -> T | None:
        """Stand for election; run `body(leadership)` whenever elected, until it returns in a term that was not lost.

        A body that returns has resigned; one that was ended by a loss stands again, held down if that happens
        again and again. Cancelling this cancels the body, waits for its end and gives the seat back.

        Args:
            body: runs in a task of its own, which is cancelled when the leadership is over.
            stop_on: signals, such as `signal.SIGTERM`, on which to resign and return; from the main thread only.

        Returns:
            What the body returned; None where the candidate was asked to stop.

        Raises:
            Misuse: the locks were closed.
            whatever the body raises, after the seat was given back.
        """
        campaign = Campaign(self._reach(), self._name, self.candidate, self._terms, ASYNCIO_COLOUR)
        with self._standing.entered(self, campaign), _in_loop(stop_on, campaign.stop):
            return await campaign.run(body)

    async def leader(self) -> Leader | None:
        """Return who leads, as the store has it now; None where nobody does."""
        return await leader(self._reach(), self._name)

    async def observe(self, wait: float | None = None) -> AsyncGenerator[News, None]:
        """Yield the news: the latest at once, then each one in order, without repeats also after a reconnection.

        The latest always comes. Of more than 32 in one go the oldest may be missed: look at `number`.

        Args:
            wait: seconds without news after which this ends; None goes on for ever.
        """
        protocol, after = self._reach(), None
        while found := await next_news(protocol, self._name, after, inf if wait is None else wait):
            for piece in found:
                yield piece
            after = found[-1].number


@contextlib.contextmanager
def _in_threads(signals: Iterable[int], stop: Callable[[], None]) -> Generator[None, None, None]:
    """Call `stop` on these signals while the block runs."""

    def resign(number: int, frame: object) -> None:
        # Never in the handler itself: it interrupts a line that may hold the mutex which `stop` needs.
        threading.Thread(target=stop, name="backstay-locks-resign", daemon=True).start()

    before = {number: signal.signal(number, resign) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _in_loop(signals: Iterable[int], stop: Callable[[], None]) -> Generator[None, None, None]:
    """Call `stop` on these signals while the block runs."""
    loop, numbers = asyncio.get_running_loop(), tuple(signals)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            if (handler := before[number]) is not None:  # one that Python did not set
                signal.signal(number, handler)
