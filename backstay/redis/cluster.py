"""Which node of a Redis Cluster serves a key now: its topology, asked of any node, and corrected by redirections."""

from __future__ import annotations

from functools import partial
from typing import Any

from backstay.errors import Misuse, Unavailable
from backstay.runtime import Runtime

from .exchange import Exchange
from .failures import Redirected
from .route import AGAIN, ASK_WITHIN, Inquiry, Place
from .slots import Topology, slot_of, topology
from .target import Target

__all__ = ["ClusterRoute"]

_DOUBT = 5.0  # s for which a node that did not answer is asked last


class ClusterRoute:
    """The way to the nodes of a Cluster.

    Args:
        target: names nodes to begin with.
        exchange: asks one node.
        runtime: the make that the exchange is of.
    """

    def __init__(self, target: Target, exchange: Exchange, runtime: Runtime) -> None:
        self._target, self._exchange, self._runtime = target, exchange, runtime
        self._masters: dict[int, Place] = {}
        self._nodes: frozenset[Place] = frozenset()
        self.places: frozenset[Place] = frozenset()
        self._stale = True
        self._asked_at = float("-inf")
        self._doubted: dict[Place, float] = {}
        self._why = "no node was asked yet"
        self._inquiry = Inquiry(runtime)

    async def place(self, key: str, timeout: float) -> Place:
        """See `Route.place`."""
        slot = slot_of(key)
        if not self._stale:
            found = self._masters.get(slot)
            if found is not None:
                return found
        until = self._runtime.now() + timeout
        while True:
            now = self._runtime.now()
            if now - self._asked_at >= AGAIN:  # many who are redirected at once ask once
                await self._inquiry.join(partial(self._ask, until), until - now)
            found = self._masters.get(slot)
            if found is not None:
                return found
            left = until - self._runtime.now()
            if left <= AGAIN:
                raise Unavailable(f"{self._target.label} does not serve slot {slot} now: {self._why}")
            await self._runtime.sleep(self._runtime.uniform(AGAIN / 2, AGAIN))

    def doubt(self, place: Place) -> None:
        """See `Route.doubt`."""
        self._doubted[place] = self._runtime.now() + _DOUBT
        self._stale = True

    def redirected(self, answer: Redirected, asked: Place) -> Place:
        """Return where a node says that a request belongs; a slot that has moved is remembered."""
        place = self._mapped((answer.host or asked[0], answer.port))
        if not answer.once:
            self._masters[answer.slot] = place
            if place not in self.places:
                self.places = self.places | {place}
            self._stale = True  # others may have moved as well
        return place

    def forked(self) -> None:
        """See `Route.forked`."""
        self._inquiry.forked()

    async def _ask(self, until: float) -> None:
        now = self._runtime.now()
        self._asked_at = now
        candidates = list(self._nodes.union(self._target.places))
        # A random order spreads the questions; who did not answer lately comes last.
        candidates.sort(key=lambda place: (self._doubted.get(place, 0.0) > now, self._runtime.uniform(0.0, 1.0)))
        for place in candidates:
            left = until - self._runtime.now()
            if left <= 0.0:
                return
            try:
                told = await self._told(place, min(left, ASK_WITHIN))
            except Unavailable as error:
                self._why = str(error)
                self._doubted[place] = self._runtime.now() + _DOUBT
                continue
            self._doubted = {each: end for each, end in self._doubted.items() if end > now and each != place}
            self._learn(told)
            return

    async def _told(self, place: Place, timeout: float) -> Topology:
        settings = self._target.settings.at(*place)
        (reply,) = await self._exchange(settings, [("CLUSTER", "SLOTS")], timeout)
        if isinstance(reply, Exception):
            if "cluster support disabled" in str(reply):
                raise Misuse(f"{settings.label} is no node of a Redis Cluster; connect with redis://")
            raise Unavailable(f"{settings.label} does not tell the Cluster's slots: {reply}")
        return self._checked(topology(reply, place), settings.label)

    def _checked(self, told: Topology, label: str) -> Topology:
        if not told.masters:
            raise Unavailable(f"{label} knows of no slot that is served")
        if self._target.remap is None:
            return told
        masters = {slot: self._mapped(place) for slot, place in told.masters.items()}
        return Topology(masters, frozenset(map(self._mapped, told.nodes)))

    def _learn(self, told: Topology) -> None:
        self._masters, self._nodes = dict(told.masters), told.nodes
        places = frozenset(told.masters.values())
        if places != self.places:
            self.places = places
        self._stale = False

    def _mapped(self, place: Place) -> Place:
        remap: Any = self._target.remap
        return place if remap is None else remap(place)
