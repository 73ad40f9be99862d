"""Participants: three functions, a database, and the barrier between them and the requests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import sessionmaker

from backstay.clock import monotonic
from backstay.errors import Misuse

from ..judge import done, judge
from ..tcc.action import fits
from ..values import Answer, Branch, Phase, Reply
from .binding import AsyncHandle, Handle
from .conflicts import conflicting, wait, wait_async
from .face import AsyncBarrier, Barrier

__all__ = ["AsyncParticipant", "Participant"]

Bind: TypeAlias = "Engine | sessionmaker[Any] | Callable[[Branch], AbstractContextManager[Handle]]"
AsyncBind: TypeAlias = (
    "AsyncEngine | async_sessionmaker[Any] | Callable[[Branch], AbstractAsyncContextManager[AsyncHandle]]"
)


class _Functions:
    """The three functions of a participant, and what may be asked of them."""

    def __init__(self, name: str, try_: Any, confirm: Any, cancel: Any) -> None:
        if not name or len(name) > 200:
            raise Misuse(f"a participant's name must have 1 to 200 characters, got {len(name)}")
        self.name = name
        self.by_phase: Mapping[Phase, Callable[..., Any]] = {
            Phase.TRY: try_,
            Phase.CONFIRM: confirm,
            Phase.CANCEL: cancel,
        }
        for phase, function in self.by_phase.items():
            if not callable(function):
                raise Misuse(f"{phase.value} of participant {name!r} is no function, but {function!r}")

    def check(self, payload: Mapping[str, Any]) -> None:
        for phase, function in self.by_phase.items():
            fits(function, 2, payload, f"{phase.value} of participant {self.name!r}")


class Participant:
    """A database's side of TCC, for in-process branches and, through `router` or `blueprint`, for HTTP ones.

        stock = Participant("stock", engine, try_=reserve, confirm=take, cancel=give_back)

        def reserve(session, branch, *, sku: str, quantity: int) -> None: ...

    Each function is called inside a transaction that holds the barrier's rows as well, so its effect happens
    once; see `Barrier` for the guarantee and its limits. Raise `TryRefused` in `try_` to refuse.

    Args:
        name: unique in the process and stable over releases.
        bind: an Engine (functions get a Connection), a sessionmaker (a Session), or a function of the branch
            that returns a context manager which begins a transaction, gives a Session or Connection, and
            commits at its end: for one that picks a shard by `branch.payload`.
        try_: `f(session_or_connection, branch, **payload)`: reserves; returns JSON or None.
        confirm: the same signature: makes it final. `branch.result` is what try returned.
        cancel: the same signature: undoes it. It is not called if try never ran.
        create: create the barrier's table at the first request; only where `bind` is an Engine.
        lock_timeout: seconds to wait for locks (set on PostgreSQL, whose default is for ever) and to repeat
            after conflicts. Keep it below the coordinators' timeout: a process that was stopped inside its
            transaction must not hold up others for longer.
    """

    is_async = False

    def __init__(
        self,
        name: str,
        bind: Bind,
        *,
        try_: Callable[..., Any],
        confirm: Callable[..., Any],
        cancel: Callable[..., Any],
        create: bool = True,
        lock_timeout: float = 3.0,
    ) -> None:
        self._functions = _Functions(name, try_, confirm, cancel)
        if isinstance(bind, (AsyncEngine, async_sessionmaker)):
            raise Misuse(f"participant {name!r} has an asyncio bind; use AsyncParticipant")
        given: Any = bind
        if not callable(given) and not isinstance(given, Engine):
            raise Misuse(f"participant {name!r} needs an Engine, a sessionmaker or a function, got {given!r}")
        self._bind = bind
        self._barrier = Barrier(bind if isinstance(bind, Engine) else None, lock_timeout=lock_timeout)
        if not 0 < lock_timeout < float("inf"):
            raise Misuse(f"lock_timeout must be > 0 s and finite, got {lock_timeout}")
        self._lock_timeout = lock_timeout
        self._create = create and isinstance(bind, Engine)

    def __repr__(self) -> str:
        return f"Participant({self.name!r})"

    @property
    def name(self) -> str:
        """The name under which coordinators' journals keep in-process branches."""
        return self._functions.name

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise Misuse if one of the functions cannot take this payload."""
        self._functions.check(payload)

    def perform(self, branch: Branch) -> Reply:
        """Serve one request, in one local transaction; never raises an `Exception`.

        When the database gives the transaction up for another one (deadlock, serialization failure, SQLite
        busy) it is repeated a few times.
        """
        try:
            self.check(branch.payload)
        except Misuse as error:
            if branch.phase is Phase.TRY:
                return Reply(answer=Answer.INVALID, text=str(error), error=error)
        until = monotonic() + self._lock_timeout
        for attempt in itertools.count(1):
            try:
                self._ensure()
                with self._open(branch) as handle:
                    result = self._barrier.call(handle, branch, lambda filled: self._run(handle, filled))
                return done(result, what=f"the result of {self.name}")
            except Exception as error:
                if not conflicting(error) or monotonic() > until:
                    return judge(branch.phase, error)
                wait(attempt, random.uniform)
        raise AssertionError("unreachable")

    def _ensure(self) -> None:
        if self._create and isinstance(self._bind, Engine):
            Barrier.create(self._bind)
            self._create = False

    def _open(self, branch: Branch) -> AbstractContextManager[Any]:
        if isinstance(self._bind, (Engine, sessionmaker)):
            return self._bind.begin()
        return self._bind(branch)

    def _run(self, handle: Any, branch: Branch) -> Any:
        return self._functions.by_phase[branch.phase](handle, branch, **branch.payload)


class AsyncParticipant:
    """The asyncio twin of `Participant`: the functions are `async def`, the bind an asyncio one."""

    is_async = True

    def __init__(
        self,
        name: str,
        bind: AsyncBind,
        *,
        try_: Callable[..., Awaitable[Any]],
        confirm: Callable[..., Awaitable[Any]],
        cancel: Callable[..., Awaitable[Any]],
        create: bool = True,
        lock_timeout: float = 3.0,
    ) -> None:
        self._functions = _Functions(name, try_, confirm, cancel)
        if isinstance(bind, (Engine, sessionmaker)):
            raise Misuse(f"participant {name!r} has a blocking bind; use Participant")
        given: Any = bind
        if not callable(given) and not isinstance(given, AsyncEngine):
            raise Misuse(
                f"participant {name!r} needs an AsyncEngine, an async_sessionmaker or a function, got {given!r}"
            )
        self._bind = bind
        self._barrier = AsyncBarrier(bind if isinstance(bind, AsyncEngine) else None, lock_timeout=lock_timeout)
        if not 0 < lock_timeout < float("inf"):
            raise Misuse(f"lock_timeout must be > 0 s and finite, got {lock_timeout}")
        self._lock_timeout = lock_timeout
        self._create = create and isinstance(bind, AsyncEngine)

    def __repr__(self) -> str:
        return f"AsyncParticipant({self.name!r})"

    @property
    def name(self) -> str:
        """The name under which coordinators' journals keep in-process branches."""
        return self._functions.name

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise Misuse if one of the functions cannot take this payload."""
        self._functions.check(payload)

    async def perform(self, branch: Branch) -> Reply:
        """Serve one request, in one local transaction; never raises an `Exception`."""
        try:
            self.check(branch.payload)
        except Misuse as error:
            if branch.phase is Phase.TRY:
                return Reply(answer=Answer.INVALID, text=str(error), error=error)
        until = monotonic() + self._lock_timeout
        for attempt in itertools.count(1):
            try:
                await self._ensure()
                async with self._open(branch) as handle:
                    result = await self._barrier.call(handle, branch, lambda filled: self._run(handle, filled))
                return done(result, what=f"the result of {self.name}")
            except Exception as error:
                if not conflicting(error) or monotonic() > until:
                    return judge(branch.phase, error)
                await wait_async(attempt, random.uniform)
        raise AssertionError("unreachable")

    async def _ensure(self) -> None:
        if self._create and isinstance(self._bind, AsyncEngine):
            await AsyncBarrier.create(self._bind)
            self._create = False

    def _open(self, branch: Branch) -> AbstractAsyncContextManager[Any]:
        if isinstance(self._bind, (AsyncEngine, async_sessionmaker)):
            return self._bind.begin()
        return self._bind(branch)

    def _run(self, handle: Any, branch: Branch) -> Awaitable[Any]:
        work: Awaitable[Any] = self._functions.by_phase[branch.phase](handle, branch, **branch.payload)
        return work
