"""Several masters in the simulated world: the shipped backend and scripts; requests and answers are messages."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from backstay.errors import OutcomeUnknown, Rejected, Unavailable
from backstay.locks.backends.quorum import QuorumBackend
from backstay.locks.backends.quorum.masters import SuspendingMasters
from backstay.locks.claims import MUTEX
from backstay.locks.errors import LockLost
from backstay.locks.leases.keeper import Keeper
from backstay.locks.leases.lease import Grant
from backstay.locks.leases.protocol import LeaseProtocol
from backstay.locks.owners import Owners
from backstay.locks.telemetry import Meters
from backstay.simulation import Host, Network, World
from stateful.locks.lua_redis import LuaRedis
from stateful.locks.simulated import LOCK, SPACE, STEM, Server, SimWire

MAX_TTL = 2.0  # s


class Master(Server):
    """A Redis of its own, whose wall clock is some seconds off those of the others."""

    def __init__(self, world: World, number: int, clock: float, rate: float) -> None:
        self.world = world
        self.host = world.host(f"redis{number}", offset=clock, rate=rate)
        self.redis = LuaRedis(self.host.now, lambda channel, message: 0)
        self.calls = 0
        self.votes_from = 0.0
        """The world's time before which it does not vote: what the check of restarts finds on a real one."""

    def run(self, script: Any, keys: Any, arguments: Any) -> Any:
        if self.world.time < self.votes_from:
            raise Unavailable("it was restarted lately")
        return super().run(script, keys, arguments)

    def fail(self, seconds: float, *, loses: bool, stays_out: float) -> None:
        """Crash, and come back: with its data, or without and then for some time without a vote."""
        self.host.crash()

        def back() -> None:
            self.host.restart()
            if loses:
                self.redis.flush()
                self.votes_from = self.world.time + stays_out

        self.world.at(seconds, back)


class QuorumClient:
    """A process with locks on all masters, and the leases that it believes in."""

    def __init__(
        self, world: World, masters: list[Master], name: str, *, offset: float, rate: float, resend: float, fence: bool
    ) -> None:
        self.world = world
        self.host: Host = world.host(name, offset=offset, rate=rate)
        wires = [SimWire(self.host, master, resend) for master in masters]
        backend = QuorumBackend(
            self.host,
            SuspendingMasters(self.host, wires),
            SPACE,
            "redis+quorum://simulated",
            patience=0.4,
            within=0.1,
            fence=fence,
            max_ttl=MAX_TTL,
        )
        meters = Meters("redis-quorum", SPACE)
        self.protocol = LeaseProtocol(self.host, backend, Keeper(self.host), Owners(name), meters)
        self.grants: list[Grant] = []
        self.lost = self.failed = 0

    async def rounds(self, count: int, *, ttl: float, wait: float, hold: float, renew: bool, won: list[int]) -> None:
        chance = self.world.random.uniform
        for _ in range(count):
            await self.host.sleep(chance(0.0, hold))
            try:
                grant = await self.protocol.acquire(LOCK, MUTEX, ttl, wait, renew)
            except (Rejected, Unavailable, OutcomeUnknown):
                self.failed += 1
                continue
            if grant.valid(self.host.now()):  # else another may have been before it
                won.append(grant.fence)
            self.grants.append(grant)
            try:
                await self.host.sleep(chance(0.0, 2 * hold))
            except asyncio.CancelledError:
                await self._give_back(grant)
                raise
            await self._give_back(grant)

    async def _give_back(self, grant: Grant) -> None:
        try:
            await self.protocol.release(grant)
        except LockLost:
            self.lost += 1
        except (Unavailable, OutcomeUnknown):
            self.failed += 1

    def believes(self) -> list[Grant]:
        """Return the leases that are valid by this process's own clock."""
        return [] if self.host.dead else [grant for grant in self.grants if grant.valid(self.host.now())]

    def crash(self) -> None:
        self.host.crash()
        self.grants.clear()


def simulate_quorum(
    seed: int,
    *,
    masters: int = 3,
    clients: int = 3,
    rounds: int = 3,
    faults: bool = True,
    fence: bool = True,
    stays_out: float = MAX_TTL * 1.1 + 0.1,
    clocks: float = 0.9,
    ttl: float = 0.5,
    longest: float = 0.3,
) -> tuple[World, list[Master], list[QuorumClient], list[int]]:
    """Run clients against independent masters; at most a minority of them fails; invariants hold after every step."""
    network = Network()
    if faults:
        network = Network(loss=0.03, delay=(0.0001, 0.02), long_delays=0.04, long_delay=(0.05, 0.9))
    world = World(seed, network=network, limit=400_000)
    chance, pick = world.random.uniform, world.random.choice
    rates = (0.991, 1.0, 1.0 / 0.991) if faults else (1.0,)
    places = [Master(world, n, 1e9 + chance(-clocks, clocks), pick(rates) if faults else 1.0) for n in range(masters)]
    # Rates of clocks differ by less than 1 % between any two: where masters differ, clients keep the true time.
    everybody = [
        QuorumClient(
            world, places, f"c{n}", offset=chance(-3600.0, 3600.0), rate=1.0, resend=0.1 if faults else 0.0, fence=fence
        )
        for n in range(clients)
    ]
    won: list[int] = []

    def one_holder() -> None:
        holders = [grant for client in everybody for grant in client.believes()]
        assert len(holders) <= 1, f"two valid leases: {holders}"

    def fences_rise() -> None:
        assert not fence or all(low < high for low, high in pairwise(won[-2:])), f"fences fell: {won}"

    world.invariant(one_holder)
    world.invariant(fences_rise)
    for client in everybody:
        wait = 10.0 if not faults else pick((0.05, 0.5, 5.0))
        renew = not faults or world.random.random() < 0.6
        hold = longest if faults else 0.01
        task = world.start(
            client.host, client.rounds(rounds, ttl=ttl, wait=wait, hold=hold, renew=renew, won=won), name="rounds"
        )
        if faults:
            _trouble(world, client, places, task)
    if faults:
        for master in world.random.sample(places, masters // 2):
            if world.random.random() < 0.7:
                loses, seconds = world.random.random() < 0.6, chance(0.05, 1.0)
                world.at(
                    chance(0.0, 1.5),
                    lambda master=master, seconds=seconds, loses=loses: master.fail(  # type: ignore[misc]
                        seconds, loses=loses, stays_out=stays_out
                    ),
                )
    world.run(settle=10.0)
    return world, places, everybody, won


def _trouble(world: World, client: QuorumClient, masters: list[Master], task: Any) -> None:
    kind, when = world.random.random(), world.random.uniform(0.0, 2.0)
    if kind < 0.15:
        world.at(when, lambda: client.host.stall(world.random.uniform(0.1, 2.0)))
    elif kind < 0.25:
        world.at(when, client.crash)
    elif kind < 0.4:
        world.at(when, task.cancel)
    elif kind < 0.6:
        for master in world.random.sample(masters, world.random.randint(1, len(masters))):
            world.at(when, lambda master=master: world.part(client.host, master.host, 1.2))  # type: ignore[misc]
    elif kind < 0.7:
        master = world.random.choice(masters)
        world.at(when, lambda: master.host.stall(world.random.uniform(0.1, 1.0)))


def held_somewhere(masters: list[Master]) -> list[str]:
    """Return the owners that masters still name."""
    return [str(value) for master in masters if (value := master.redis.live(STEM + "owner")) is not None]
