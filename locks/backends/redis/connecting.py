"""From a target to a wire and a mailbox: plain for a single server, routed where servers replace each other."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeVar

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.redis import (
    ClusterRoute,
    Exchange,
    Place,
    Precautions,
    Route,
    SentinelRoute,
    Shape,
    Target,
    asyncio_exchange,
    blocking_exchange,
)
from backstay.runtime import Runtime

from .answers import Node, Wire
from .async_mailbox import AsyncMailbox
from .async_wire import AsyncWire
from .hinted_mailbox import HintedMailbox
from .mailbox import BlockingMailbox
from .routed import NodeWire, RoutedWire
from .routed_mailbox import Box, RoutedMailbox
from .wire import BlockingWire

__all__ = ["Connector"]

BLOCKING, ASYNCIO = BlockingRuntime(), AsyncioRuntime()

W = TypeVar("W", bound=NodeWire)

Mailboxes = RoutedMailbox | HintedMailbox | BlockingMailbox | AsyncMailbox


class Connector:
    """Makes what a backend needs, in either make, for one target.

    Args:
        target: which servers.
        space: the namespace.
    """

    def __init__(self, target: Target, space: str) -> None:
        self._target, self._space = target, space
        # One for both makes and all loops: each server is asked once in a process.
        self._precautions = Precautions(
            master=target.shape is Shape.SENTINEL, min_replicas=target.min_replicas, eviction=target.eviction
        )

    def blocking(self) -> tuple[Wire, Mailboxes]:
        """Return a wire and a mailbox for threads."""
        return self._made(
            BLOCKING, blocking_exchange, BlockingWire, lambda wire, label: BlockingMailbox(wire, self._space, label)
        )

    def asynchronous(self) -> tuple[Wire, Mailboxes]:
        """Return a wire and a mailbox for the running event loop."""
        return self._made(
            ASYNCIO, asyncio_exchange, AsyncWire, lambda wire, label: AsyncMailbox(wire, self._space, label)
        )

    def _made(
        self, runtime: Runtime, exchange: Exchange, wire: Callable[[Node], W], box: Callable[[W, str], Box]
    ) -> tuple[Wire, Mailboxes]:
        target = self._target
        if target.shape is Shape.SINGLE:
            alone = wire(self._node(None))
            mailbox: Box = box(alone, target.label)
            return alone, HintedMailbox(mailbox) if target.min_replicas else mailbox  # type: ignore[return-value]
        wires: dict[Place, W] = {}

        def made(place: Place) -> NodeWire:
            wires[place] = wire(self._node(place))
            return wires[place]

        route: Route = (SentinelRoute if target.shape is Shape.SENTINEL else ClusterRoute)(target, exchange, runtime)
        routed = RoutedWire(runtime, route, exchange, target.settings, made, target.label, target.min_replicas)

        def box_at(place: Place) -> Box:
            routed.at(place)
            return box(wires[place], self._node(place).label)

        return routed, RoutedMailbox(routed, box_at)

    def _node(self, place: Place | None) -> Node:
        target = self._target
        settings = target.settings if place is None else target.settings.at(*place)
        return Node(
            settings=settings,
            label=target.label if place is None else settings.label,
            patience=target.patience,
            precautions=self._precautions,
            min_replicas=target.min_replicas,
            connect_within=inf if place is None else target.patience / 4,
        )
