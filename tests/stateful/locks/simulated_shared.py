"""What several can hold, in the simulated world: the clients of `simulated`, and what must be true at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backstay.locks.backends.redis.keys import shared_keys
from backstay.locks.backends.redis.reading import units_of
from backstay.locks.claims import READ, WRITE, Claim, Resource, Unit, fits, permits, stripes, weigh, whole
from backstay.simulation import Network, World
from stateful.locks.simulated import NAME, SPACE, Client, Server, trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A kind of resource, what its clients claim, and what one of them may go on with."""

    resource: Resource
    claims: Sequence[Claim]
    less: Claim | None = None
    size: int = 0


READ_WRITE = Recipe(resource=Resource(NAME, "read-write lock"), claims=(READ, READ, WRITE), less=READ)
SEMAPHORE = Recipe(
    resource=Resource(NAME, "semaphore"),
    claims=(permits(1, 3), permits(2, 3), permits(3, 3)),
    less=permits(1, 3),
    size=3,
)
SEGMENTED = Recipe(
    resource=Resource(NAME, "segmented lock"),
    claims=(stripes([0], 4), stripes([0, 1], 4), stripes([1, 2], 4), stripes([0, 3], 4), whole(4)),
    less=stripes([1], 4),
    size=4,
)
RECIPES = {"read-write lock": READ_WRITE, "semaphore": SEMAPHORE, "segmented lock": SEGMENTED}


class Invariants:
    """What must be true of a server and its clients after every step."""

    def __init__(self, recipe: Recipe, server: Server, clients: Sequence[Client]) -> None:
        self.recipe, self.server, self.clients = recipe, server, clients
        self.keys = shared_keys(SPACE, recipe.resource)
        self._checked = 0
        self._capacity = {unit.label: unit.capacity or recipe.size for each in recipe.claims for unit in each.units}

    def never_above_capacity(self) -> None:
        """Valid leases never weigh more than their unit carries, and the server knows each of them."""
        used: dict[str, int] = {}
        held = self.server.redis.live(self.keys.holders) or {}
        for client in self.clients:
            for grant in client.believes():
                units = client.claimed[grant.token].units
                assert fits(used, units, self.recipe.size), f"valid leases above capacity at {grant}"
                assert grant.token in held, f"{grant} is valid, and the server does not know it"
                weigh(used, units)

    def acquired_and_available_make_the_capacity(self) -> None:
        """What is said to be used is what the holders use (S4)."""
        held = self.server.redis.live(self.keys.holders) or {}
        used: dict[str, int] = {}
        for token, text in held.items():
            if not token.startswith("="):
                weigh(used, units_of(text.partition("|")[2]))
        assert {f"={label}": str(weight) for label, weight in used.items()} == {
            label: weight for label, weight in held.items() if label.startswith("=")
        }, f"the holders do not add up: {held}"
        assert all(weight <= self._capacity[label] for label, weight in used.items()), f"granted above capacity: {held}"

    def fences_rise(self) -> None:
        grants = self.server.redis.grants
        fences = [fence for _, fence in grants[max(0, self._checked - 1) :]]
        assert all(low < high for low, high in pairwise(fences)), fences
        self._checked = len(grants)

    def no_idle_room(self) -> None:
        """Without faults nobody waits who fits beside the holders and those who came before: release hands over."""
        waiting = self.server.redis.live(self.keys.waiters) or {}
        used: dict[str, int] = {}
        for token, text in (self.server.redis.live(self.keys.holders) or {}).items():
            if not token.startswith("="):
                weigh(used, units_of(text.partition("|")[2]))
        for token in self.server.redis.live(self.keys.queue) or []:
            units: tuple[Unit, ...] = units_of(waiting[token].split("|")[2])
            assert not fits(used, units, self.recipe.size), f"{token} waits, and there is room for it"
            weigh(used, units)


def simulate_shared(
    seed: int,
    recipe: Recipe,
    *,
    clients: int = 4,
    rounds: int = 3,
    faults: bool = True,
    rate_error: float = 0.009,
    hold: float = 0.2,
) -> tuple[World, Server, list[Client]]:
    """Run some clients against one resource, checking after every step; raises where an invariant is broken."""
    network = Network(loss=0.04, delay=(0.0001, 0.02), long_delays=0.03) if faults else Network()
    world = World(seed, network=network, limit=200_000)
    server = Server(world)
    chance = world.random.uniform
    rates = (1.0 - rate_error, 1.0, 1.0 / (1.0 - rate_error))
    everybody = [
        Client(
            world,
            server,
            f"c{number}",
            offset=chance(-3600.0, 3600.0) if faults else 0.0,
            rate=world.random.choice(rates) if faults else 1.0,
            resend=0.1 if faults else 0.0,
            resource=recipe.resource,
            claims=recipe.claims,
            less=recipe.less,
        )
        for number in range(clients)
    ]
    truths = Invariants(recipe, server, everybody)
    world.invariant(truths.never_above_capacity)
    world.invariant(truths.acquired_and_available_make_the_capacity)
    world.invariant(truths.fences_rise)
    if not faults:
        world.invariant(truths.no_idle_room)
    for client in everybody:
        # Without faults the ttl is longer than the run: an expiry may not heal what a missed hand-over broke.
        wait = world.random.choice((0.05, 0.5, 5.0)) if faults else 10.0
        renew = not faults or world.random.random() < 0.7
        work = client.rounds(rounds, ttl=0.5 if faults else 30.0, wait=wait, hold=hold if faults else 0.01, renew=renew)
        task = world.start(client.host, work, name="rounds")
        if faults:
            trouble(world, client, task)
    if faults and world.random.random() < 0.2:
        world.at(chance(0.0, 2.0), lambda: server.host.stall(chance(0.1, 1.5)))
    world.run(settle=90.0)
    return world, server, everybody


__all__ = ["READ_WRITE", "RECIPES", "SEGMENTED", "SEMAPHORE", "Invariants", "Recipe", "simulate_shared"]
