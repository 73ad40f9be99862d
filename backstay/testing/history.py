"""Records what clients did with locks and what they were told, to be checked afterwards.

    history = History("run.jsonl")                    # child processes append to the same file
    me = history.client("worker-1")                   # one thread or task
    with me.acquiring("stock") as attempt:
        lease = attempt.won(lock.acquire())           # or `await lock.acquire()`
    attempt.look()                                    # before each use: may the holder still rely on it?
    with attempt.releasing():
        lease.release()
    verdict = check(history.events())                 # from backstay.testing.linearizability

It works with any lock, of any library: what it needs is the moment before each call and the moment after it. All
processes of one machine share the clock (`backstay.clock`); histories of several machines cannot be put together.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import LockLost
from backstay.locks.claims import MUTEX, Claim, Resource

from ._events import Action, Event, Phase

__all__ = ["Action", "Attempt", "Client", "Event", "History", "Phase", "read"]

T = TypeVar("T")

_numbers = itertools.count(1).__next__


class History:
    """What happened, as it is being recorded; any thread, task and forked child may add to it.

    Args:
        path: a file that each event is appended to as a line of JSON; without one the events stay in this process.
        clock: seconds; the default is the one clock of all processes of this machine, which leases count with.
        refusals: errors of a foreign lock that say "others hold it", beside `NotAcquired`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        clock: Clock = monotonic,
        refusals: Iterable[type[BaseException]] = (),
    ) -> None:
        self._path = None if path is None else Path(path)
        self._file = -1
        if self._path is not None:
            self._file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        self._events: list[Event] = []
        self.clock = clock
        self.refusals: tuple[type[BaseException], ...] = (NotAcquired, *refusals)

    def client(self, name: str) -> Client:
        """Return a client: whoever does one thing after another, a thread or a task."""
        return Client(self, name)

    def add(self, event: Event) -> None:
        """Add one event."""
        if self._path is None:
            self._events.append(event)
            return
        line = event.line().encode() + b"\n"
        if os.write(self._file, line) != len(line):  # one write to an appending file: lines never mix
            raise OSError(f"the disk of {self._path} is full; the history is not complete")

    def died(self, client: str) -> None:
        """Say that a client was seen dead: what it holds ends with its time-to-live."""
        self.add(Event(at=self.clock(), phase=Phase.RETURN, action=Action.DIE, client=client))

    def events(self) -> list[Event]:
        """Return all events so far, in order of time; with a file, those of all processes."""
        found = list(self._events) if self._path is None else list(_lines(self._path))
        return sorted(found, key=lambda event: event.at)

    def close(self) -> None:
        """Close the file; what was recorded can still be read."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: str | os.PathLike[str]) -> list[Event]:
    """Return the events of a file, in order of time. A last line that was cut by a crash is left out.

    Raises:
        Misuse: another line is no event.
    """
    return sorted(_lines(Path(path)), key=lambda event: event.at)


def _lines(path: Path) -> Iterable[Event]:
    lines = path.read_text().split("\n")
    return (Event.parsed(line) for line in lines[:-1])  # after the last line feed: nothing, or a line that was cut


class Client:
    """One who does one thing after another."""

    def __init__(self, history: History, name: str) -> None:
        self.history, self.name = history, name

    def acquiring(self, resource: Resource | str, claim: Claim = MUTEX, *, ttl: float | None = None) -> Attempt:
        """Return an attempt to acquire: a `with` block around the call, in either colour.

        Args:
            resource: what; resources of another name (or kind) are judged by themselves.
            claim: how much of it, as `backstay.locks.claims` says it: `MUTEX`, `READ`, `WRITE`, `permits(2, 5)`.
            ttl: seconds that it outlives a holder that dies; None where it has no end.
        """
        return Attempt(self, str(resource), claim, ttl)


class Attempt:
    """One acquisition and what becomes of it.

    As a `with` block it surrounds the call that acquires. `NotAcquired` that leaves the block is a refusal,
    `Unavailable` and `Misuse` say that nothing was done, and any other error leaves the outcome open.
    """

    def __init__(self, client: Client, resource: str, claim: Claim, ttl: float | None) -> None:
        self._client, self._resource, self._claim, self._ttl = client, resource, claim, ttl
        self._history = client.history
        self._name = f"{os.getpid()}.{threading.get_native_id()}.{_numbers()}"
        self._lease: Any = None
        self._answered = False

    def __enter__(self) -> Attempt:
        self._add(Phase.INVOKE, Action.ACQUIRE)
        return self

    def won(self, lease: T, *, fence: int | None = None, until: float | None = None) -> T:
        """Say that it was acquired, and return what was given.

        Args:
            lease: what the lock gave: its `fence`, `deadline` and `is_valid()` are used where it has them.
            fence: the fence of a foreign lock, if it has fences.
            until: until when a foreign lock is promised, by the history's clock, if that is known.
        """
        self._lease, self._answered = lease, True
        if fence is None:
            fence = getattr(lease, "fence", None)
        self._add(Phase.RETURN, Action.ACQUIRE, fence=fence, until=self._until() if until is None else until)
        return lease

    def refused(self) -> None:
        """Say that others held it, where the call says so without an error."""
        self._answered = True
        self._add(Phase.FAIL, Action.ACQUIRE, why="refused")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if self._answered:
            return
        if error is None:
            self._add(Phase.UNKNOWN, Action.ACQUIRE)
            raise Misuse("the block ended without an answer: say won(lease) or refused() in it")
        self._fail(Action.ACQUIRE, error)

    def look(self) -> bool:
        """Ask the lease whether it is valid, note the answer and return it; for leases with `is_valid()`."""
        at = self._history.clock()
        valid = bool(self._lease.is_valid())
        self._add(Phase.LOOK, Action.ACQUIRE, at=at, valid=valid)
        return valid

    @contextmanager
    def releasing(self) -> Generator[None]:
        """Surround the call that gives it back; again, where that had no answer."""
        at = self._history.clock()
        valid = bool(self._lease.is_valid()) if hasattr(self._lease, "is_valid") else None
        with self._calling(Action.RELEASE, at=at, valid=valid, until=self._until()):
            yield

    @contextmanager
    def extending(self) -> Generator[None]:
        """Surround the call that prolongs it."""
        with self._calling(Action.EXTEND):
            yield

    @contextmanager
    def lessening(self, claim: Claim) -> Generator[None]:
        """Surround the call after which only `claim` is held, which is less: a writer goes on as a reader."""
        with self._calling(Action.LESSEN, claim=claim):
            yield

    @contextmanager
    def _calling(self, action: Action, **fields: Any) -> Generator[None]:
        self._add(Phase.INVOKE, action, **fields)
        try:
            yield
        except BaseException as error:
            self._fail(action, error)
            raise
        self._add(Phase.RETURN, action, until=self._until() if action is Action.EXTEND else None)

    def _fail(self, action: Action, error: BaseException) -> None:
        phase, why = Phase.UNKNOWN, type(error).__name__
        if isinstance(error, self._history.refusals):
            phase, why = Phase.FAIL, "refused"
        elif isinstance(error, LockLost):
            known = {"expired": "expired", "max_hold": "expired", "taken": "lost"}
            phase, why = Phase.FAIL, known.get(error.reason, error.reason)
        elif isinstance(error, (Unavailable, Misuse)) and not isinstance(error, OutcomeUnknown):
            phase = Phase.FAIL
        self._add(phase, action, why=why)

    def _until(self) -> float | None:
        """Return until when the lease is promised, where it counts with the clock of this history."""
        until: float | None = getattr(self._lease, "deadline", None)
        return until if self._history.clock is monotonic else None

    def _add(self, phase: Phase, action: Action, *, at: float | None = None, **fields: Any) -> None:
        fields.setdefault("claim", self._claim)
        self._history.add(
            Event(
                at=self._history.clock() if at is None else at,
                phase=phase,
                action=action,
                client=self._client.name,
                attempt=self._name,
                resource=self._resource,
                ttl=self._ttl,
                **fields,
            )
        )
