"""Joining a resource and finding out whose turn it is: the steps, over one session.

Theory of operation. A contender makes an ephemeral node with the server's next number and lists its neighbours, both
sent at once: a server answers one session in order, so the listing has everybody who came before. Who holds follows
from the listing (`turn`). Who has to wait watches the nearest of those who are in its way, by `get`, which also
brings what the node's owner gave back since (`lessen`), and looks again when one of them goes.

A create that was not answered is looked for by its token behind a `sync`: the leader then has done all that the
session ever asked, so what is not in that listing will never be. A node of our token counts only if it belongs to
the session of now: one of an earlier session is about to vanish (Z1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kazoo import exceptions

from backstay.clock import monotonic
from backstay.errors import Misuse, Unavailable
from backstay.locks.claims import Claim, Resource, Unit
from backstay.locks.errors import SizeDiffers

from .answers import failure, silent
from .client import Answer, Client, Event, create_container, create_contender
from .contenders import OLD_SIZE, Contender, claim_of, earlier, listed, text_of
from .session import Session
from .turn import Ahead, obstacles
from .wire import Wire

__all__ = ["SIZED", "Exchange", "Place", "Size", "Standing"]

SIZED = frozenset({"semaphore", "segmented lock"})
"""Kinds whose nodes have a size as data; the others' are containers, which the server deletes when they are empty."""

TURNS = 20  # how often a resource may be deleted under a contender before it stops trying

Call = Callable[[Client], Answer]


@dataclass(slots=True)
class Place:
    """What is known of one contender's node."""

    above: str
    session: int
    node: str = ""
    fence: int = 0
    asked: bool = False
    """A create was sent and its answer not seen."""
    agreed: bool = False
    """The size was once as it was said; a resize since then that kept what units mean leaves it its place."""

    @property
    def path(self) -> str:
        """Where the node is."""
        return f"{self.above}/{self.node}"


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a resource as its node has it."""

    size: int = 0
    drained: bool = False
    """Whoever claims at another size fills everything until it goes."""
    version: int = -1

    @classmethod
    def read(cls, data: bytes, version: int) -> Size:
        """Read the data of a resource's node."""
        try:
            told: dict[str, Any] = json.loads(data) if data else {}
            return cls(int(told.get("size", 0)), bool(told.get("drained", False)), version)
        except (ValueError, AttributeError, TypeError):  # not ours: somebody else wrote it
            return cls(0, False, version)

    def data(self) -> bytes:
        """Return the data that says so."""
        return json.dumps({"v": 1, "size": self.size, "drained": self.drained}).encode()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look came to."""

    fence: int
    """Of the grant; 0 where others are in the way."""
    ahead: int = 0
    first: str = ""
    """The token of the first of them."""


class Exchange:
    """Requests to the ensemble, several in one flight, with errors as ours."""

    def __init__(self, session: Session, wire: Wire, label: str) -> None:
        self.session, self._wire, self._label = session, wire, label
        self.containers = True

    async def ask(self, until: float, calls: Sequence[Call], *, wrote: bool) -> list[Any]:
        """Send all and return the answers, errors of single requests as values.

        Raises:
            OutcomeUnknown: an answer is missing, and one of them would have changed something.
            Unavailable: an answer is missing, or the session is over.
            Misuse: the server refuses such requests for good.
        """
        if not calls:
            return []
        client = self.session.client
        answers = [call(client) for call in calls]
        limit = max(until - monotonic(), 0.001)
        if not await self._wire.all(answers, limit):
            raise silent(self._label, limit, wrote)
        values: list[Any] = []
        for answer in answers:
            error = answer.exception
            if error is not None and not isinstance(error, _ANSWERS):
                raise failure(self._label, error, wrote)
            values.append(answer.value if error is None else error)
        return values

    async def make(self, path: str, until: float, *, container: bool) -> None:
        """Make a node and all above it, where they are missing."""
        above = path.rpartition("/")[0]
        for _ in range(3):
            if container and self.containers:
                (answer,) = await self.ask(until, [lambda client: create_container(client, path)], wrote=False)
                if isinstance(answer, exceptions.UnimplementedError):
                    self.containers = False
                    continue
            else:
                (answer,) = await self.ask(until, [lambda client: client.create_async(path)], wrote=False)
            if not isinstance(answer, exceptions.NoNodeError):
                return
            (answer,) = await self.ask(until, [lambda client: client.ensure_path_async(above)], wrote=False)
            if isinstance(answer, exceptions.NoNodeError):
                raise Misuse(f"{self._label}: the chroot of this client does not exist; create it, with all above it")


_ANSWERS = (
    exceptions.NoNodeError,
    exceptions.NodeExistsError,
    exceptions.BadVersionError,
    exceptions.NotEmptyError,
    exceptions.UnimplementedError,
    exceptions.RolledBackError,
    exceptions.RuntimeInconsistency,  # what the operations behind a failed one of a transaction get
)
"""Errors that tell the state of a node, for the caller to judge."""


@dataclass(slots=True)
class Look:
    """One attempt of one contender, from its node to its turn."""

    exchange: Exchange
    resource: Resource
    claim: Claim
    token: str
    place: Place
    until: float
    watch: Callable[[list[str]], None] | None
    """Says which nodes the waiter must be woken for; None where it does not wait."""
    event: Callable[[Event], object]

    async def run(self) -> Standing:
        """Join where that was not done yet, and find out whose turn it is."""
        for _ in range(TURNS):
            names, size = await self._join_and_list()
            mine = self._find(names)
            if mine is None or (not self.place.fence and not await self._is_ours(mine)):
                continue  # the resource was deleted, or an operator deleted our node: join anew (Z11)
            if self.resource.kind in SIZED and not await self._agreed(size):
                continue
            return await self._judge(mine, names, size)
        raise Unavailable(f"{self.resource}: its node was deleted again and again while we joined")

    # -- joining

    async def _join_and_list(self) -> tuple[list[Contender], Size]:
        place, above = self.place, self.place.above
        joined = bool(place.node or place.asked)
        path = f"{above}/{self.token}-{text_of(self.resource, self.claim)}"
        calls: list[Call] = [
            (lambda client: client.sync_async(above)) if joined else (lambda client: create_contender(client, path)),
            lambda client: client.get_children_async(above),
        ]
        if self.resource.kind in SIZED:
            if self.watch is not None:
                self.watch([above])
            event = self.event if self.watch is not None else None
            calls.append(lambda client: client.get_async(above, watch=event))
        place.asked = True
        made, names, *rest = await self.exchange.ask(self.until, calls, wrote=not joined)
        if not joined:
            place.asked = isinstance(made, exceptions.NoNodeError)
            if isinstance(made, BaseException):
                place.asked = False
                await self._make_resource()
                return [], Size()
            path, stat = made
            # The session is read from the node: another may have begun since it was asked for.
            place.node, place.fence, place.asked = path.rpartition("/")[2], stat.czxid, False
            place.session = stat.ephemeralOwner
        if isinstance(names, BaseException):
            place.node, place.fence, place.asked = "", 0, False
            return [], Size()
        size = Size()
        if rest and not isinstance(rest[0], BaseException):
            data, stat = rest[0]
            size = Size.read(data, stat.version)
        return listed(names), size

    async def _make_resource(self) -> None:
        await self.exchange.make(self.place.above, self.until, container=self.resource.kind not in SIZED)

    def _find(self, names: list[Contender]) -> Contender | None:
        place = self.place
        mine = [each for each in names if (each.node == place.node if place.node else each.token == self.token)]
        if not mine:
            place.node, place.fence, place.asked = "", 0, False
            return None
        return min(mine, key=lambda each: each.number)

    async def _is_ours(self, mine: Contender) -> bool:
        """Look at a node that carries our token: only one of this session is ours (Z1)."""
        place, path = self.place, f"{self.place.above}/{mine.node}"
        (stat,) = await self.exchange.ask(self.until, [lambda client: client.exists_async(path)], wrote=False)
        place.asked = False
        if stat is None or isinstance(stat, BaseException) or stat.ephemeralOwner != place.session:
            return False
        place.node, place.fence = mine.node, stat.czxid
        return True

    async def _agreed(self, size: Size) -> bool:
        """See that we and the store mean the same size; false where somebody was faster in saying it first."""
        said = self.claim.size
        if said in (0, size.size) or (self.place.agreed and not size.drained):
            self.place.agreed = True
            return True
        if size.size:
            await self.leave()
            raise SizeDiffers(self.resource, said, size.size)
        data, above = Size(said).data(), self.place.above
        await self.exchange.ask(
            self.until, [lambda client: client.set_async(above, data, version=size.version)], wrote=False
        )
        return False

    # -- whose turn it is

    async def _judge(self, mine: Contender, names: list[Contender], size: Size) -> Standing:
        before = earlier(names, mine)
        known: dict[str, tuple[Unit, ...]] = {}
        looked: set[str] = set()
        waits = self.watch is not None
        while True:
            ahead = [Ahead(each.node, known.get(each.node, _units(each, size))) for each in before]
            blocked = obstacles(ahead, self.claim.units, size.size)
            if blocked is None:
                return Standing(self.place.fence)
            fresh = [node for node in blocked if node not in looked]
            if not fresh or (not waits and self.resource.kind == "lock"):  # of a mutex nothing can be given back
                break
            looked.update(fresh)
            known.update(await self._look_at(fresh))
        if not waits:
            await self.leave()
        first = next((each.token for each in before if known.get(each.node, each.units)), "")
        return Standing(0, len(before), first)

    async def _look_at(self, nodes: list[str]) -> dict[str, tuple[Unit, ...]]:
        """Return what those in the way claim otherwise than their names say: less, or nothing where they left."""
        paths = [f"{self.place.above}/{node}" for node in nodes]
        event = self.event if self.watch is not None else None
        if self.watch is not None:
            self.watch(paths)
        answers = await self.exchange.ask(self.until, [_get(path, event) for path in paths], wrote=False)
        found: dict[str, tuple[Unit, ...]] = {}
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, BaseException):
                found[node] = ()
            elif answer[0]:
                found[node] = claim_of(answer[0].decode(errors="replace"))[0]
        return found

    async def leave(self) -> None:
        """Delete our node."""
        path = self.place.path
        await self.exchange.ask(self.until, [lambda client: client.delete_async(path)], wrote=True)
        self.place.node, self.place.fence = "", 0


def _get(path: str, event: Callable[[Event], object] | None) -> Call:
    return lambda client: client.get_async(path, watch=event)


def _units(each: Contender, size: Size) -> tuple[Unit, ...]:
    return OLD_SIZE if size.drained and each.size and each.size != size.size else each.units
