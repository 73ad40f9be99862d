"""Redis as the limiter sees it: a budget, a gate, and the server that has a bucket."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime, drive
from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, Unavailable
from backstay.redis import (
    ClusterRoute,
    Exchange,
    Place,
    Route,
    SentinelRoute,
    Shape,
    Target,
    asyncio_exchange,
    blocking_exchange,
    target,
)
from backstay.runtime import Runtime
from backstay.url import require

from ....forks import Guard, renew_in_child
from ....timeout.deadline import DUE
from ....timeout.errors import DeadlineExceeded
from ...backend import StoreFailed
from ...gate import Gate
from .elsewhere import elsewhere
from .node import Node
from .wire import ASKING, ONE, Script, command, key_of, raised

__all__ = ["Nearer", "Store"]

_LATE = -1
_BLOCKING, _ASYNCIO = BlockingRuntime(), AsyncioRuntime()


class Nearer(float):
    """The deadline of a call that may not use its whole budget, because the work that it is for ends sooner."""

    __slots__ = ("began",)

    began: float


class Store:
    """One server or several, and a hard budget for each call, connecting and waiting for a connection included.

    Every call carries the moment after which the server must not charge any more, in the server's own time.
    A call that was reported as timed out is therefore never charged later; only when the server answered in
    time and its reply was lost is it unknown whether the tokens are gone.

    Behind Sentinel and in a Cluster, a server that does not serve a bucket says so and has charged nothing; the
    right one is asked within the same budget. A failover takes longer than that: meanwhile calls fail as they do
    when a single server is down. Buckets that the new master had not heard of are full there.

    Limiters of one process that name the same servers share one store, and so its connections and its gate.
    """

    def __init__(self, servers: Target, *, budget: float, clock: Clock = monotonic, gate: Gate | None = None) -> None:
        if not 0.001 <= budget <= 10:
            raise Misuse(f"budget must be from 0.001 to 10 s, got {budget!r}")
        self.target = servers
        self.budget = budget
        self.clock = clock
        self.gate = gate or Gate(f"redis store {servers}", clock=clock)
        self._begin()
        renew_in_child(self)

    def _begin(self) -> None:
        self.node = self._made(self.target.settings)
        """The only server; where there are several, none that is used."""
        self._nodes: dict[Place, Node] = {}
        self._alone = self.target.shape is Shape.SINGLE
        self._route = None if self._alone else self._routed(_BLOCKING, blocking_exchange)
        self._routes: dict[asyncio.AbstractEventLoop, Route] = {}

    @classmethod
    def shared(cls, store: object, budget: float) -> Store:
        """Return the process's store for a URL or client, made at the first call."""
        require("hiredis", "redis")
        servers = target(store)
        with _guard.lock:
            found = _stores.get((servers.identity, budget))
            if found is None:
                found = _stores[servers.identity, budget] = cls(servers, budget=budget)
            return found

    def settle(self, failure: StoreFailed | None) -> None:
        """Tell the gate how a call ended. An error reply is an answer: the server is up, and quick."""
        if failure is not None and failure.reason != "reply":
            self.gate.failed(f"{failure.reason}: {failure}")
        elif self.gate.troubled:
            self.gate.passed()

    # --- calls ---------------------------------------------------------------------------------------

    def enter(self, *, heeding: bool = True) -> float:
        """Return the deadline of a call that starts now: its budget's end, or the end of the work in hand if sooner.

        Args:
            heeding: False where tokens go back, which is done although the work in hand is out of time.

        Raises:
            StoreFailed: the gate is shut.
            DeadlineExceeded: the work in hand is out of time.
        """
        due = DUE.get() if heeding else None
        now = self.clock()
        if due is not None and due <= now:
            raise DeadlineExceeded(f"{self.gate.name} was not asked: the deadline had passed")
        if self.gate.shut and not self.gate.enter():
            raise StoreFailed("gate", f"{self.gate.name} does not answer and is left alone for a while")
        if due is None or due >= now + self.budget:
            return now + self.budget
        nearer = Nearer(due)
        nearer.began = now
        return nearer

    def since(self, deadline: float) -> float:
        """Return for how many seconds a call has been under way."""
        began = deadline.began if isinstance(deadline, Nearer) else deadline - self.budget
        return self.clock() - began

    def ask(self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script = ONE) -> list[Any]:
        """Run a script in the calling thread and return its reply.

        Raises:
            StoreFailed: no usable reply by the deadline.
        """
        if self._route is None:
            return self._ask(self.node, body, borrowed, deadline, script)
        route, key = self._route, key_of(body)
        place, once = drive(self._place(route, key, deadline)), False
        while True:
            try:
                return self._ask(self._at(place), body, borrowed, deadline, script, once)
            except StoreFailed as failure:
                place, once, pause = self._next(route, place, failure, deadline)
            drive(_BLOCKING.sleep(pause))
            place = place if once else drive(self._place(route, key, deadline))

    def _ask(
        self,
        node: Node,
        body: bytes,
        borrowed: Callable[[], bytes],
        deadline: float,
        script: Script = ONE,
        once: bool = False,
    ) -> list[Any]:
        whole = once  # ASKING counts for one command, so it must not be one that the server may have forgotten
        while True:
            pool = node.pool
            connection = pool.take(deadline)
            try:
                if once:
                    connection.call(ASKING, deadline)
                reply = connection.call(self._encode(body, borrowed, deadline, whole, node, script), deadline)
            except BaseException:
                pool.drop(connection)
                raise
            if _is_demoted(reply):
                pool.drop(connection)
            else:
                pool.give_back(connection, self.clock())
            answer = self._answer(reply, node)
            if answer is not None:
                return answer
            whole = whole or isinstance(reply, Exception)

    async def ask_async(
        self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script = ONE
    ) -> list[Any]:
        """Run a script over the running loop's lane and return its reply."""
        if self._alone:
            return await self._ask_async(self.node, body, borrowed, deadline, script)
        route, key = self._route_of_loop(), key_of(body)
        place, once = await self._place(route, key, deadline), False
        while True:
            try:
                return await self._ask_async(self._at(place), body, borrowed, deadline, script, once)
            except StoreFailed as failure:
                place, once, pause = self._next(route, place, failure, deadline)
            await asyncio.sleep(pause)
            place = place if once else await self._place(route, key, deadline)

    async def _ask_async(
        self,
        node: Node,
        body: bytes,
        borrowed: Callable[[], bytes],
        deadline: float,
        script: Script = ONE,
        once: bool = False,
    ) -> list[Any]:
        whole = once
        lane = node.lane()
        while True:
            if once:
                lane.submit(lambda: ASKING, deadline).add_done_callback(_unheeded)
            encode = partial(self._encode, body, borrowed, deadline, whole, node, script)
            reply = await lane.submit(encode, deadline)
            if _is_demoted(reply):
                lane.end("connection", "the server is no primary any more")
            answer = self._answer(reply, node)
            if answer is not None:
                return answer
            whole = whole or isinstance(reply, Exception)

    def _encode(
        self,
        body: bytes,
        borrowed: Callable[[], bytes],
        deadline: float,
        whole: bool,
        node: Node | None = None,
        script: Script = ONE,
    ) -> bytes:
        return command(body, (node or self.node).not_after(deadline), borrowed(), whole=whole, script=script)

    def _answer(self, reply: Any, node: Node | None = None) -> list[Any] | None:
        """Return the script's answer, or None where asking again is safe and useful: nothing was executed."""
        if isinstance(reply, Exception):
            if str(reply).startswith("NOSCRIPT"):
                return None
            raise raised(reply)
        answer: list[Any] = reply
        (node or self.node).hear(answer[3])
        # Late by the server's clock although our time is not over: our idea of its clock was old, and is mended.
        return None if answer[0] == _LATE else answer

    # --- several servers -----------------------------------------------------------------------------

    async def _place(self, route: Route, key: str, deadline: float) -> Place:
        try:
            return await route.place(key, max(deadline - self.clock(), 0.001))
        except Unavailable as error:
            raise StoreFailed("connection", str(error)) from error
        except Misuse as error:
            raise StoreFailed("refused", str(error)) from error

    def _next(self, route: Route, place: Place, failure: StoreFailed, deadline: float) -> tuple[Place, bool, float]:
        """Return where to ask next, whether with ASKING, and after how many seconds.

        Raises:
            StoreFailed: the failure itself, where asking again does not help or may charge twice.
        """
        onward = elsewhere(route, place, failure)
        if onward is None or self.clock() + onward.pause >= deadline:
            raise failure
        return onward.place, onward.once, onward.pause

    def _at(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            node = self._nodes.setdefault(place, self._made(self.target.settings.at(*place)))
        return node

    def _made(self, settings: Any) -> Node:
        return Node(settings, budget=self.budget, clock=self.clock)

    def _routed(self, runtime: Runtime, exchange: Exchange) -> Route:
        kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
        return kind(self.target, exchange, runtime)

    def _route_of_loop(self) -> Route:
        loop = asyncio.get_running_loop()
        route = self._routes.get(loop)
        if route is None:
            for ended in [known for known in tuple(self._routes) if known.is_closed()]:
                self._routes.pop(ended, None)
            route = self._routes[loop] = self._routed(_ASYNCIO, asyncio_exchange)
        return route

    # --- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the blocking connections at rest; the store may be used again."""
        for node in (self.node, *tuple(self._nodes.values())):
            node.pool.clear()

    async def aclose(self) -> None:
        """Close the running loop's connections; the store may be used again."""
        self._routes.pop(asyncio.get_running_loop(), None)
        closed = [node.close_lane() for node in (self.node, *tuple(self._nodes.values()))]
        if True in closed:
            await asyncio.sleep(0)  # the transport lets go of its socket in the next turn

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child."""
        self._begin()


def _is_demoted(reply: Any) -> bool:
    """Return whether the server became a replica: the next connection, by name, may lead to the new primary."""
    return isinstance(reply, Exception) and str(reply).startswith(("READONLY", "MASTERDOWN"))


def _unheeded(future: asyncio.Future[Any]) -> None:
    """Take the answer to ASKING, which says nothing that the next one does not."""
    if not future.cancelled():
        future.exception()


_guard = Guard()
_stores: weakref.WeakValueDictionary[tuple[object, float], Store] = weakref.WeakValueDictionary()
