"""A simulated client whose requests fail as a test says, one by one: the same request never fails by chance."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from backstay.errors import OutcomeUnknown, Unavailable
from backstay.locks.backends.redis import RedisBackend
from backstay.locks.backends.redis.answers import Request
from backstay.locks.backends.redis.scripts import Script
from backstay.locks.claims import KINDS, MUTEX, Resource
from backstay.locks.leases.keeper import Keeper
from backstay.locks.leases.lease import Grant
from backstay.locks.leases.protocol import LeaseProtocol
from backstay.locks.owners import Owners
from backstay.locks.telemetry import REASONS, Meters, RecipeMeters
from backstay.simulation import Host, Network, World
from backstay.telemetry.counters import PlainCounter
from backstay.telemetry.histograms import Histogram
from stateful.locks.simulated import SPACE, Server, SimMailbox, SimWire

T = TypeVar("T")


class ScriptedWire(SimWire):
    """`plan["release"] = ["lose reply", "ok"]`: what becomes of the next requests of each kind."""

    def __init__(self, host: Host, server: Server) -> None:
        super().__init__(host, server)
        self.plan: dict[str, list[str]] = {}
        self.sent: list[tuple[float, str]] = []

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        self.sent.append((self._host.world.time, script.name))
        todo = self.plan.get(script.name)
        fate = todo.pop(0) if todo else "ok"
        if fate == "refuse":
            raise Unavailable("refused")
        if fate in ("lose request", "hang"):
            await self._host.sleep(timeout if fate == "lose request" else 1000.0)
            raise OutcomeUnknown("lost")
        answer = await super().call(script, keys, arguments, timeout)
        if fate == "lose reply":
            raise OutcomeUnknown("lost")
        if fate == "resend":  # the wire itself sent it again: a stale connection
            return (await super().call(script, keys, arguments, timeout))[0], True
        return answer

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        return [(await self.call(each.script, each.keys, each.arguments, timeout))[0] for each in requests]

    def count(self, name: str) -> int:
        return sum(script == name for _, script in self.sent)


class Bench:
    """One world, one server, any number of clients; nothing fails but by plan, nothing is random but jitter."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed, network=Network(delay=(0.001, 0.001)))
        self.server = Server(self.world)
        self.number = 0

    def client(self, patience: float = 1.0) -> BenchClient:
        self.number += 1
        return BenchClient(self, f"c{self.number}", patience)

    def run(self, *work: tuple[BenchClient, Coroutine[Any, Any, Any]], settle: float = 0.0) -> list[Any]:
        """Run each coroutine on its client's host; return their results."""
        tasks = [self.world.start(client.host, coroutine) for client, coroutine in work]
        self.world.run(settle=settle)
        return [task.result() for task in tasks]


def own_meters() -> Meters:
    """Meters that count for one client only; the process's own are shared by name."""
    meters = Meters("redis", SPACE)
    for kind in KINDS:
        for name in RecipeMeters.__slots__:
            shared = getattr(meters[kind], name)
            if isinstance(shared, dict):
                own: object = {reason: PlainCounter() for reason in REASONS}
            else:
                own = Histogram(shared.bounds) if isinstance(shared, Histogram) else PlainCounter()
            setattr(meters[kind], name, own)
    return meters


class BenchClient:
    def __init__(self, bench: Bench, name: str, patience: float) -> None:
        self.host = bench.world.host(name)
        self.wire = ScriptedWire(self.host, bench.server)
        self.mailbox = SimMailbox(self.host, bench.server)
        backend = RedisBackend(self.wire, self.mailbox, SPACE, "redis://scripted", patience, self.host.now)
        self.keeper = Keeper(self.host)
        self.protocol = LeaseProtocol(self.host, backend, self.keeper, Owners(name), own_meters())

    def kill(self) -> None:
        """End the process; its server learns of it by a FIN."""
        self.mailbox.cut(seen_by_server=True)
        self.host.crash()

    def stop(self) -> None:
        """Stop the process for longer than any test lasts; its connections stay."""
        self.host.stall(1000.0)

    async def acquire(self, name: str = "x", *, ttl: float = 10.0, wait: float = 0.0, renew: bool = True) -> Grant:
        return await self.protocol.acquire(Resource(name), MUTEX, ttl, wait, renew)


def alone(work: Callable[[BenchClient], Coroutine[Any, Any, T]], *, settle: float = 0.0) -> tuple[T, BenchClient]:
    """Run `work(client)` in a world of its own."""
    bench = Bench()
    client = bench.client()
    (result,) = bench.run((client, work(client)), settle=settle)
    return result, client


__all__ = ["Bench", "BenchClient", "ScriptedWire", "alone"]
