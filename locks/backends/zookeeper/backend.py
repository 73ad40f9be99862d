"""The port over an ensemble, for either make."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence

from backstay.clock import monotonic
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.locks.backend import Busy, Freed, Holding, Kept, Letter, Queued, Renewal, Survey, Watcher
from backstay.locks.claims import KINDS, Claim, Resource, fits, weigh
from backstay.locks.documents import Documents
from backstay.runtime import Runtime

from .client import Answer, Client
from .contenders import OLD_SIZE, claim_of, listed, text_of
from .contending import SIZED, Call, Exchange, Look, Place, Size
from .documents import ZooKeeperDocuments
from .letters import Letters
from .places import Places
from .session import Session
from .settings import Settings
from .wire import Wire

__all__ = ["ZooKeeperBackend"]

BATCH = 256  # requests in one flight


class ZooKeeperBackend:
    """Locks as ephemeral nodes, in the order in which the ensemble made them."""

    kind = "zookeeper"
    kinds = KINDS

    def __init__(self, runtime: Runtime, wire: Wire, settings: Settings, space: str) -> None:
        self.label, self.patience = settings.label, settings.patience
        self._paths = Places(settings.chroot, space)
        self._letters = Letters(runtime)
        self._session = Session(runtime, wire, settings, self._connection_changed)
        self._exchange = Exchange(self._session, wire, settings.label)
        self._places: dict[str, Place] = {}
        self._latest = 0  # the session that was last taken in
        self._documents = ZooKeeperDocuments(runtime, self._exchange, self._paths)

    def _connection_changed(self) -> None:
        self._letters.wake_all()
        self._documents.listen_anew()

    @property
    def session(self) -> float:
        """Seconds that a grant is good for after the latest sign of life; less than the ensemble keeps a session."""
        return self._session.promised

    @property
    def documents(self) -> Documents:
        """The documents of this ensemble."""
        return self._documents

    @property
    def letters(self) -> int:
        """How many wait here."""
        return len(self._letters)

    def attend(self, watcher: Watcher) -> None:
        self._session.attend(watcher)

    # -- taking and giving back

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        until = monotonic() + timeout
        text_of(resource, claim)  # refused before anything is sent
        session = await self._session.live(timeout)
        if session != self._latest:
            self._latest = session
            self._forget_others(session)
        place = self._places.get(token)
        if place is not None and place.asked:  # by whatever session: its node is looked for
            place.session = session
        elif place is None or place.session != session:  # an earlier session took its node along (Z5)
            place = self._places[token] = Place(self._paths.resource(resource), session)
        watch = functools.partial(self._letters.watch, token) if address else None
        look = Look(self._exchange, resource, claim, token, place, until, watch, self._letters.happened)
        try:
            standing = await look.run()
        except Misuse:
            if place.node:
                with contextlib.suppress(BackstayError):  # the session's end takes the node along, at the latest
                    await look.leave()
            self._places.pop(token, None)
            raise
        except Unavailable as error:
            if place.node or place.asked:
                raise OutcomeUnknown(str(error)) from error  # our node may stand: it has to be withdrawn
            self._places.pop(token, None)
            raise
        if standing.fence:
            return standing.fence
        if not address:
            self._places.pop(token, None)
        return Busy(self.session, 0.0, standing.ahead + 1, standing.first)

    def _forget_others(self, session: int) -> None:
        """Drop what earlier sessions had: those who held it were told, and nobody gives it back."""
        for token, place in list(self._places.items()):
            if place.session != session and not place.asked:
                self._places.pop(token, None)

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        place = self._places.get(token)
        if place is None or place.fence != fence:
            return Freed.NOT_OWNER
        until = monotonic() + timeout
        if await self._session.live(timeout) != place.session:
            self._places.pop(token, None)
            return Freed.NOT_OWNER
        answers = await self._exchange.ask(until, self._deletion(resource, place.path), wrote=True)
        self._places.pop(token, None)
        return Freed.NOT_OWNER if isinstance(answers[0], BaseException) else Freed.FREED

    def _deletion(self, resource: Resource, path: str) -> list[Call]:
        """Return the requests that delete a node, and the resource after it where the server does not do that."""
        calls: list[Call] = [lambda client: client.delete_async(path)]
        if not self._exchange.containers and resource.kind not in SIZED:
            above = path.rpartition("/")[0]
            calls.append(lambda client: client.delete_async(above))
        return calls

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        place = self._places.get(token)
        data = text_of(resource, claim).encode()
        if place is None or place.fence != fence:
            return Freed.NOT_OWNER
        until = monotonic() + timeout
        if await self._session.live(timeout) != place.session:
            return Freed.NOT_OWNER
        path = place.path
        (answer,) = await self._exchange.ask(until, [lambda client: client.set_async(path, data)], wrote=True)
        return Freed.NOT_OWNER if isinstance(answer, BaseException) else Freed.FREED

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        until = monotonic() + timeout
        session = await self._session.live(timeout)
        outcomes: list[Kept] = []
        for start in range(0, len(leases), BATCH):
            outcomes += await self._verify(leases[start : start + BATCH], session, until)
        return outcomes

    async def _verify(self, leases: Sequence[Renewal], session: int, until: float) -> list[Kept]:
        """Look whether nodes stand. The `sync` before makes the leader's word of it: it knows of ended sessions."""
        root, places = self._paths.root, [self._places.get(lease.token) for lease in leases]
        calls: list[Call] = [lambda client: client.sync_async(root)]
        calls += [_exists(place.path) for place in places if place is not None]
        _, *stats = await self._exchange.ask(until, calls, wrote=False)
        found = iter(stats)
        outcomes: list[Kept] = []
        for lease, place in zip(leases, places, strict=True):
            stat = None if place is None else next(found)
            stands = (
                stat is not None
                and not isinstance(stat, BaseException)
                and stat.czxid == lease.fence
                and stat.ephemeralOwner == session
            )
            if not stands:
                self._places.pop(lease.token, None)
            outcomes.append(Kept.RENEWED if stands else Kept.NOT_OWNER)
        return outcomes

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        place = self._places.get(token)
        if place is None:
            return
        until = monotonic() + timeout
        if not place.node and not place.asked:
            self._places.pop(token, None)
            return
        if await self._session.live(timeout) != place.session and not place.asked:
            self._places.pop(token, None)  # the ensemble deleted what that session had
            return
        above = place.above
        nodes = [place.node] if place.node else []
        if not nodes:
            # Behind the `sync`, which is behind the create: what is not in this listing will never be (Z4).
            _, names = await self._exchange.ask(
                until,
                [lambda client: client.sync_async(above), lambda client: client.get_children_async(above)],
                wrote=False,
            )
            if not isinstance(names, BaseException):
                nodes = [each.node for each in listed(names) if each.token == token]
        for node in nodes:
            await self._exchange.ask(until, self._deletion(resource, f"{above}/{node}"), wrote=True)
        self._places.pop(token, None)

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        until = monotonic() + timeout
        await self._session.live(timeout)
        path = self._paths.resource(resource)
        _, names = await self._exchange.ask(
            until, [lambda client: client.sync_async(path), lambda client: client.get_children_async(path)], wrote=False
        )
        for each in [] if isinstance(names, BaseException) else listed(names):
            if each.token == token:
                await self._exchange.ask(until, self._deletion(resource, f"{path}/{each.node}"), wrote=True)

    # -- sizes and sights

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        until = monotonic() + timeout
        await self._session.live(timeout)
        path = self._paths.resource(resource)
        while True:
            (found,) = await self._exchange.ask(until, [lambda client: client.get_async(path)], wrote=False)
            if isinstance(found, BaseException):
                await self._exchange.make(path, until, container=False)
                continue
            before = Size.read(found[0], found[1].version)
            after = Size(size, before.drained or (drain and before.size not in (0, size)))
            version, data = before.version, after.data()
            (answer,) = await self._exchange.ask(until, [_set(path, data, version)], wrote=True)
            if not isinstance(answer, BaseException):
                return before.size

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        until = monotonic() + timeout
        await self._session.live(timeout)
        path = self._paths.resource(resource)
        _, names, data = await self._exchange.ask(
            until,
            [
                lambda client: client.sync_async(path),  # whoever decides by this must not read the past (Z10)
                lambda client: client.get_children_async(path),
                lambda client: client.get_async(path),
            ],
            wrote=False,
        )
        if isinstance(names, BaseException) or isinstance(data, BaseException):
            return Survey(0, [], [])
        size = Size.read(data[0], data[1].version)
        contenders = listed(names)
        if contenders:  # by the server's numbers, which wrap round: the earliest is the one that nobody is before
            origin = min(contenders, key=lambda each: sum(_before(other.number, each.number) for other in contenders))
            contenders.sort(key=lambda each: (each.number - origin.number) % (1 << 32))
        found = await self._exchange.ask(until, [_get(f"{path}/{each.node}") for each in contenders], wrote=False)
        used: dict[str, int] = {}
        survey = Survey(size.size, [], [])
        for each, answer in zip(contenders, found, strict=True):
            if isinstance(answer, BaseException):
                continue  # it left meanwhile
            text, stat = answer
            units = claim_of(text.decode(errors="replace"))[0] if text else each.units
            if size.drained and each.size and each.size != size.size:
                units = OLD_SIZE
            if fits(used, units, size.size):
                age = max(0.0, time.time_ns() / 1e9 - stat.ctime / 1e3)  # for the eye only: two hosts' wall clocks
                survey.holders.append(Holding(each.token, units, stat.czxid, age, None))
            else:
                survey.waiters.append(Queued(each.token, units))
            weigh(used, units)
        return survey

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        until = monotonic() + timeout
        await self._session.live(timeout)
        found: list[Resource] = []
        for kind, path in self._paths.kinds():
            (names,) = await self._exchange.ask(until, [_children(path)], wrote=False)
            nodes: list[str] = [] if isinstance(names, BaseException) else sorted(names)
            for start in range(0, len(nodes), BATCH):
                some = nodes[start : start + BATCH]
                stats = await self._exchange.ask(until, [_exists(f"{path}/{node}") for node in some], wrote=False)
                for node, stat in zip(some, stats, strict=True):
                    if stat is not None and not isinstance(stat, BaseException) and stat.numChildren:
                        found.append(Resource(self._paths.name(node), kind))
                if len(found) >= limit:
                    return found[:limit]
        return found

    # -- waiting, and the end

    def letter(self, token: str) -> Letter:
        return self._letters.letter(token)

    async def open(self, timeout: float) -> None:
        """Have a session: watches are left with each look, there is nothing else to open."""
        await self._session.live(timeout)

    async def close(self) -> None:
        self._places.clear()
        self._documents.forget()
        await self._session.close()
        self._letters.wake_all()

    def forked(self) -> None:
        self._places.clear()
        self._letters.begin_anew()
        self._documents.forget()
        self._session.forked()


def _before(one: int, other: int) -> bool:
    return 0 < (other - one) % (1 << 32) < 1 << 31


def _exists(path: str) -> Call:
    return lambda client: client.exists_async(path)


def _get(path: str) -> Call:
    return lambda client: client.get_async(path)


def _set(path: str, data: bytes, version: int) -> Call:
    def call(client: Client) -> Answer:
        return client.set_async(path, data, version=version)

    return call


def _children(path: str) -> Call:
    return lambda client: client.get_children_async(path)
