"""What the two faces of a transaction manager have in common: the parts of a coordinator, put together."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from backstay.errors import Misuse
from backstay.runtime import Runtime

from .identity import gtrids, owner
from .journal import Journal
from .tcc.action import Action, registry
from .tcc.finish import Finisher
from .tcc.hosts import check
from .tcc.protocol import Coordinator
from .tcc.recovery import Recoverer, Upkeep
from .tcc.seat import Seat
from .tcc.settings import Settings
from .tcc.transport import Request, Transport
from .tcc.work import Call
from .telemetry import Measures
from .values import Reply, Target, dump

__all__ = ["Cast", "Company", "Crossing", "Where"]

Where: TypeAlias = "Action | str"


class Crossing:
    """The transport of a process: actions are called here, URLs over HTTP."""

    def __init__(self, local: Transport, http: Transport) -> None:
        self._local, self._http = local, http

    async def send(self, request: Request) -> Reply:
        """Send once, by the way that the target asks for."""
        return await (self._http if request.target.kind == "http" else self._local).send(request)


class Cast:
    """The parts of one process's coordinator; made anew in a forked child, which is another coordinator."""

    def __init__(
        self,
        *,
        journal: Journal,
        transport: Transport,
        runtime: Runtime,
        settings: Settings,
        name: str | None = None,
        background: bool = True,
        gtrid: Callable[[int, float], str] | None = None,
    ) -> None:
        name = name or owner()
        self.seat = Seat(journal=journal, runtime=runtime, owner=name, ttl=settings.lease, started=self._started)
        self.finisher = Finisher(
            journal=journal,
            transport=transport,
            runtime=runtime,
            settings=settings,
            measures=Measures,
            left=self._left,
        )
        self.recoverer = Recoverer(
            journal=journal, runtime=runtime, settings=settings, seat=self.seat, finisher=self.finisher
        )
        self.upkeep = Upkeep(runtime=runtime, settings=settings, seat=self.seat, recoverer=self.recoverer)
        self.coordinator = Coordinator(
            journal=journal,
            runtime=runtime,
            settings=settings,
            seat=self.seat,
            finisher=self.finisher,
            gtrids=gtrid or gtrids(name),
        )
        self._background = background

    def _started(self) -> None:
        if self._background:
            self.upkeep.start()

    def _left(self) -> None:
        self.upkeep.nudge()


class _Connections(Protocol):
    def reborn(self) -> None: ...


class Company:
    """Actions, settings and ports of a transaction manager, and its present cast."""

    def __init__(
        self,
        *,
        journal: Journal,
        actions: Iterable[Action],
        settings: Settings,
        runtime: Runtime,
        transport: Callable[[Mapping[str, Action]], Transport],
        connections: Iterable[_Connections] = (),
        background: bool = True,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.actions = registry(actions)
        self.closed = False
        self.runtime = runtime
        self._transport = transport(self.actions)
        self._connections = list(connections)
        self._background = background
        self.cast = self._assemble()
        _companies.add(self)

    def _assemble(self) -> Cast:
        return Cast(
            journal=self.journal,
            transport=self._transport,
            runtime=self.runtime,
            settings=self.settings,
            background=self._background,
        )

    def register(self, action: Action) -> None:
        """Add an action."""
        self.actions.update(registry([*self.actions.values(), action]))

    def call(self, where: Where, payload: Mapping[str, Any]) -> Call:
        """Check a branch that is to be called, at the earliest moment.

        Raises:
            Misuse: no URL, an unknown action, or a payload that is no JSON or does not fit the action.
        """
        if self.closed:
            raise Misuse("this transaction manager is closed")
        if isinstance(where, str):
            target = Target(kind="http", address=check(where))
        else:
            registry([where])
            if self.actions.get(where.name) is not where:
                raise Misuse(
                    f"action {where.name!r} is not registered; give it to connect(..., actions=[...]), "
                    "so that recovery finds it after a restart"
                )
            where.check(payload)
            target = Target(kind="action", address=where.name)
        dump(dict(payload), what=f"the payload for {target}")
        return Call(target=target, payload=dict(payload))

    async def close(self, timeout: float) -> None:
        """Stop background work and give the lease back."""
        self.closed = True
        self.cast.seat.close()
        await self.cast.upkeep.stop(timeout)
        try:
            await self.cast.seat.leave()
        finally:
            await self.journal.close()

    def reborn(self) -> None:
        """Become another coordinator in a forked child: lease, transactions and connections are the parent's."""
        for connection in self._connections:
            connection.reborn()
        self.cast = self._assemble()
        if self.closed:  # what the parent closed stays closed
            self.cast.seat.close()


_companies: weakref.WeakSet[Company] = weakref.WeakSet()


def _after_fork() -> None:
    for company in list(_companies):
        company.reborn()


if hasattr(os, "register_at_fork"):  # hooks cannot be removed: one for the package, here
    os.register_at_fork(after_in_child=_after_fork)
