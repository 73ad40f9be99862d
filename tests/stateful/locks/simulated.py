"""The mutex in the simulated world: the shipped protocol, keeper and scripts; a wire and a mailbox made of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from backstay.errors import OutcomeUnknown, Rejected, Unavailable
from backstay.locks.backend import Note
from backstay.locks.backends.redis import RedisBackend
from backstay.locks.backends.redis.answers import Request
from backstay.locks.backends.redis.mailbox import note_of
from backstay.locks.backends.redis.scripts import Script
from backstay.locks.claims import MUTEX, Claim, Resource
from backstay.locks.errors import LockLost, SizeDiffers
from backstay.locks.leases.keeper import Keeper
from backstay.locks.leases.lease import Grant
from backstay.locks.leases.protocol import LeaseProtocol
from backstay.locks.owners import Owners
from backstay.locks.telemetry import Meters
from backstay.simulation import Host, Network, World
from stateful.locks.lua_redis import LuaRedis

SPACE, NAME = "sim", "stock"
LOCK = Resource(NAME)
STEM = f"backstay:{SPACE}:{{{NAME}}}:"


class Server:
    """A Redis on a host of its own, and who listens on which channel."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.host("redis")
        self.redis = LuaRedis(self.host.now, self._publish)
        self.channels: dict[str, SimMailbox] = {}
        self.calls = 0

    def _publish(self, channel: str, message: str) -> int:
        box = self.channels.get(channel)
        if box is None:
            return 0
        self.world.message(self.host, box.host, lambda: box.receive(channel, message))
        return 1

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        self.calls += 1
        return self.redis.run(script.text, keys, arguments)

    @property
    def owner(self) -> str:
        value = self.redis.live(STEM + "owner")
        return "" if value is None else str(value).partition("|")[0]


class SimWire:
    """A wire whose requests and replies are messages; now and then it sends a request twice, as a resend does."""

    def __init__(self, host: Host, server: Server, resend: float = 0.0) -> None:
        self._host, self._server, self._resend = host, server, resend

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        again = bool(self._resend) and self._host.world.random.random() < self._resend
        try:
            if again:
                try:
                    await self._host.request(
                        lambda: self._server.run(script, keys, arguments), to=self._server.host, timeout=timeout / 4
                    )
                except TimeoutError:
                    timeout -= timeout / 4
            answer = await self._host.request(
                lambda: self._server.run(script, keys, arguments), to=self._server.host, timeout=timeout
            )
        except ConnectionRefusedError as error:
            raise Unavailable("redis is down") from error
        except TimeoutError as error:
            raise OutcomeUnknown("redis did not answer") from error
        return answer, again

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        return [(await self.call(each.script, each.keys, each.arguments, timeout))[0] for each in requests]

    async def servers(self, timeout: float) -> Sequence[SimWire]:
        return (self,)

    async def close(self) -> None:
        pass

    def forked(self) -> None:
        pass


class SimLetter:
    def __init__(self, box: SimMailbox, token: str) -> None:
        self._box, self._token = box, token
        self.note: Note | None = None
        self.signal = box.host.signal()

    @property
    def address(self) -> str:
        return self._box.address

    async def wait(self, timeout: float) -> Note | None:
        if self.note is None:
            await self.signal.wait(timeout)
        self.signal.clear()
        note, self.note = self.note, None
        return note

    def close(self) -> None:
        self._box.letters.pop(self._token, None)


class SimMailbox:
    """One subscription of a host; `cut` loses it as a broken connection does."""

    def __init__(self, host: Host, server: Server) -> None:
        self.host, self._server = host, server
        self.address = ""
        self._generation = 0
        self.letters: dict[str, SimLetter] = {}

    def letter(self, token: str) -> SimLetter | None:
        if not self.address:
            return None
        letter = self.letters[token] = SimLetter(self, token)
        return letter

    async def open(self, timeout: float) -> None:
        self._generation += 1
        channel = f"mail:{self.host.name}:{self._generation}"

        def subscribe() -> None:
            self._server.channels[channel] = self

        try:
            await self.host.request(subscribe, to=self._server.host, timeout=timeout)
        except ConnectionRefusedError as error:
            raise Unavailable("redis is down") from error
        except TimeoutError as error:
            raise Unavailable("redis did not confirm") from error
        self.address = self.address or channel  # another task may have been faster

    def receive(self, channel: str, message: str) -> None:
        found = note_of([b"message", channel.encode(), message.encode()])
        assert found is not None
        letter = self.letters.get(found[0])
        if channel == self.address and letter is not None:
            letter.note = found[1]
            letter.signal.set()

    def cut(self, *, seen_by_server: bool) -> None:
        """Lose the connection; the server learns of it where a FIN gets through."""
        if seen_by_server:
            self._server.channels.pop(self.address, None)
        self.address = ""
        for letter in self.letters.values():
            letter.signal.set()

    async def close(self) -> None:
        pass

    def forked(self) -> None:
        pass


class Client:
    """A process with locks: its protocol, its keeper, and the leases that it believes in.

    `less` is what it sometimes goes on with in the midst of a hold.
    """

    def __init__(
        self,
        world: World,
        server: Server,
        name: str,
        *,
        offset: float,
        rate: float,
        resend: float,
        resource: Resource = LOCK,
        claims: Sequence[Claim] = (MUTEX,),
        less: Claim | None = None,
    ) -> None:
        self.world, self.server = world, server
        self.resource, self.claims, self.less = resource, claims, less
        self.claimed: dict[str, Claim] = {}  # token -> what it has at least
        self.host = world.host(name, offset=offset, rate=rate)
        self.mailbox = SimMailbox(self.host, server)
        wire = SimWire(self.host, server, resend)
        self.backend = RedisBackend(wire, self.mailbox, SPACE, "redis://simulated", 1.0, self.host.now)
        self.keeper = Keeper(self.host)
        self.protocol = LeaseProtocol(self.host, self.backend, self.keeper, Owners(name), Meters("redis", SPACE))
        self.grants: list[Grant] = []
        self.won: list[tuple[float, int]] = []  # (when, fence)
        self.lost = 0
        self.failed = 0
        self.differed = 0  # refused, since it says another size

    async def rounds(self, count: int, *, ttl: float, wait: float, hold: float, renew: bool = True) -> None:
        """Acquire, work, release, `count` times; every honest failure is an outcome, not an error."""
        chance = self.world.random.uniform
        for _ in range(count):
            await self.host.sleep(chance(0.0, hold))
            claim = self.claims[0] if len(self.claims) == 1 else self.world.random.choice(self.claims)
            try:
                grant = await self.protocol.acquire(self.resource, claim, ttl, wait, renew)
            except (Rejected, Unavailable, OutcomeUnknown):
                self.failed += 1
                continue
            except SizeDiffers:
                self.differed += 1
                continue
            self.claimed[grant.token] = claim
            self.grants.append(grant)
            self.won.append((self.world.time, grant.fence))
            try:
                await self.host.sleep(chance(0.0, 2 * hold))
                if self.less is not None and lessens(claim, self.less) and self.world.random.random() < 0.5:
                    await self._lessen(grant, self.less)
                    await self.host.sleep(chance(0.0, hold))
            except asyncio.CancelledError:
                await self._give_back(grant)
                raise
            await self._give_back(grant)

    async def _lessen(self, grant: Grant, less: Claim) -> None:
        self.claimed[grant.token] = less  # from when it is asked for: the answer may be lost
        try:
            await self.protocol.lessen(grant, less)
        except LockLost:
            self.lost += 1
        except (Unavailable, OutcomeUnknown):
            self.failed += 1

    async def _give_back(self, grant: Grant) -> None:
        try:
            await self.protocol.release(grant)
        except LockLost:
            self.lost += 1
        except (Unavailable, OutcomeUnknown):
            self.failed += 1

    def believes(self) -> list[Grant]:
        """Return the leases that are valid by this process's own clock; a dead process believes nothing."""
        return [] if self.host.dead else [grant for grant in self.grants if grant.valid(self.host.now())]

    def crash(self, *, seen_by_server: bool) -> None:
        self.mailbox.cut(seen_by_server=seen_by_server)
        self.host.crash()
        self.grants.clear()


def lessens(claim: Claim, less: Claim) -> bool:
    """Return whether `less` is a part of `claim`, and not all of it."""
    has = {unit.label: unit.weight for unit in claim.units}
    return claim != less and all(unit.weight <= has.get(unit.label, 0) for unit in less.units)


def simulate(
    seed: int,
    *,
    clients: int = 4,
    rounds: int = 3,
    faults: bool = True,
    rate_error: float = 0.009,
    ttl: float = 0.5,
    hold: float = 0.2,
) -> tuple[World, Server, list[Client]]:
    """Run some clients against one lock, checking after every step; raises where an invariant is broken."""
    network = Network(loss=0.04, delay=(0.0001, 0.02), long_delays=0.03) if faults else Network()
    world = World(seed, network=network, limit=200_000)
    server = Server(world)
    chance = world.random.uniform
    resend = 0.1 if faults else 0.0
    everybody = [
        Client(
            world,
            server,
            f"c{number}",
            offset=chance(-3600.0, 3600.0) if faults else 0.0,
            rate=world.random.choice((1.0 - rate_error, 1.0, 1.0 / (1.0 - rate_error))) if faults else 1.0,
            resend=resend,
        )
        for number in range(clients)
    ]

    def one_holder() -> None:
        holders = [grant for client in everybody for grant in client.believes()]
        assert len(holders) <= 1, f"two valid leases: {holders}"
        if holders:
            assert server.owner == holders[0].token, f"{holders[0]} is valid, but the server's owner is {server.owner}"

    def fences_rise() -> None:
        fences = [fence for _, fence in server.redis.grants]
        assert all(low < high for low, high in pairwise(fences[-2:])), fences

    world.invariant(one_holder)
    world.invariant(fences_rise)
    if not faults:
        world.invariant(lambda: no_idle_lock(server))
        ttl = 30.0  # an expiry may not heal what a missed wake-up broke
    for client in everybody:
        wait = 10.0 if not faults else world.random.choice((0.05, 0.5, 5.0))
        renew = not faults or world.random.random() < 0.7
        work = client.rounds(rounds, ttl=ttl, wait=wait, hold=0.01 if not faults else hold, renew=renew)
        task = world.start(client.host, work, name="rounds")
        if faults:
            trouble(world, client, task)
    if faults and world.random.random() < 0.2:
        world.at(chance(0.0, 2.0), lambda: server.host.stall(chance(0.1, 1.5)))
    world.run(settle=90.0)
    return world, server, everybody


def no_idle_lock(server: Server) -> None:
    """Without faults a lock that somebody queues for is never idle: giving back hands it over in the same step."""
    if server.redis.live(STEM + "queue"):
        assert server.owner, "the lock is idle and somebody waits for it"


def trouble(world: World, client: Client, task: Any) -> None:
    """Give a client its share of what goes wrong."""
    kind, when = world.random.random(), world.random.uniform(0.0, 2.0)
    if kind < 0.15:
        world.at(when, lambda: client.host.stall(world.random.uniform(0.1, 3.0)))
    elif kind < 0.25:
        world.at(when, lambda: client.crash(seen_by_server=world.random.random() < 0.5))
    elif kind < 0.4:
        world.at(when, task.cancel)
    elif kind < 0.55:
        world.at(when, lambda: client.mailbox.cut(seen_by_server=world.random.random() < 0.5))
    elif kind < 0.65:
        world.at(when, lambda: world.part(client.host, client.server.host, world.random.uniform(0.2, 2.0)))


def left_behind(server: Server) -> list[str]:
    """Return the keys that nobody should have left: all but fences and tombstones."""
    return [key for key in server.redis.living() if not key.endswith((":fence", ":size")) and ":gone:" not in key]


__all__ = ["Client", "Server", "SimMailbox", "left_behind", "simulate"]
