"""Latches, barriers, stock and elections in the simulated world: clients of `simulated`, over the shipped scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from backstay.errors import OutcomeUnknown, Rejected, Unavailable
from backstay.locks import BrokenBarrier, LockLost
from backstay.locks.backends.redis.keys import document_keys
from backstay.locks.claims import Resource
from backstay.locks.elections.campaign import Campaign, candidacy
from backstay.locks.elections.election import ASYNCIO_COLOUR
from backstay.locks.elections.leadership import AsyncLeadership
from backstay.locks.owners import Owners
from backstay.locks.recipes.barrier import BarrierProtocol
from backstay.locks.recipes.latch import LatchProtocol
from backstay.locks.recipes.stocking import StockProtocol
from backstay.locks.states.stock import SegmentForm
from backstay.simulation import Network, World
from backstay.simulation.task import Task
from stateful.locks.simulated import SPACE, Client, Server, SimMailbox, trouble

WEEK = 7 * 86400.0


class Field:
    """A world with a server and some clients, which fare as the seed says."""

    def __init__(self, seed: int, clients: int, *, faults: bool) -> None:
        network = Network(loss=0.04, delay=(0.0001, 0.02), long_delays=0.03) if faults else Network()
        self.world = World(seed, network=network, limit=500_000)
        self.server = Server(self.world)
        self.faults = faults
        chance = self.world.random
        self.clients = [
            Client(
                self.world,
                self.server,
                f"c{number}",
                offset=chance.uniform(-3600.0, 3600.0) if faults else 0.0,
                rate=chance.choice((0.991, 1.0, 1.009)) if faults else 1.0,
                resend=0.1 if faults else 0.0,
            )
            for number in range(clients)
        ]
        self.tasks: list[Task[Any]] = []
        for client in self.clients:
            _open_once(client.mailbox)

    def start(self, client: Client, work: Coroutine[Any, Any, Any], *, harm: bool = True) -> None:
        """Start a client's work, and its share of what goes wrong."""
        task = self.world.start(client.host, work)
        self.tasks.append(task)
        if self.faults and harm:
            trouble(self.world, client, task)

    def run(self, settle: float = 0.0) -> None:
        """Run the world to its end, and raise what a client found to be wrong."""
        self.world.run(settle=settle)
        for task in self.tasks:
            try:
                task.result()
            except BaseException as error:  # cancelled, or its process died
                if isinstance(error, AssertionError) or (isinstance(error, Exception) and not task.host.dead):
                    raise

    def state(self, name: str, kind: str) -> dict[str, Any] | None:
        """Return the state in a document, as the server has it."""
        value = self.server.redis.live(document_keys(SPACE, Resource(name, kind)).document)
        if value is None:
            return None
        found: dict[str, Any] = json.loads(str(value).partition("|")[2])["state"]
        return found


def _open_once(mailbox: SimMailbox) -> None:
    """Have the mailbox keep its channel when it is opened twice, as the real one does."""
    opened = mailbox.open

    async def open_once(timeout: float) -> None:
        if not mailbox.address:
            await opened(timeout)

    mailbox.open = open_once  # type: ignore[method-assign] # one instance of a simulated part


class Tally:
    """How calls ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.refused = 0

    @property
    def unknown(self) -> int:
        """Those that ended in doubt, and those whose caller died or was cancelled in the midst of them."""
        return self.begun - self.done - self.refused

    async def count(self, work: Coroutine[Any, Any, Any], quantity: int = 1) -> Any:
        """Await `work`, note how it ended, and return what it returned; an honest failure is an outcome."""
        self.begun += quantity
        try:
            result = await work
        except (Rejected, Unavailable):
            self.refused += quantity
            return None
        except OutcomeUnknown:
            return None
        self.done += quantity
        return result


# -- latch


def simulate_latch(seed: int, *, faults: bool = True, count: int = 12) -> tuple[Field, Tally, int]:
    """Count down from all sides while others wait; returns what is left at the server."""
    field, tally = Field(seed, 5, faults=faults), Tally()
    chance = field.world.random

    async def counting(client: Client) -> None:
        for _ in range(3):
            await client.host.sleep(chance.uniform(0.0, 0.3))
            await tally.count(LatchProtocol(client.protocol, "gate", count, WEEK).count_down(1, None))

    async def waiting(client: Client) -> None:
        try:
            opened = await LatchProtocol(client.protocol, "gate", count, WEEK).wait(120.0)
        except (Unavailable, OutcomeUnknown):
            return
        state = field.state("gate", "latch")
        left = count if state is None else state["left"]
        assert opened == (not left), f"told {opened}, and {left} are left"

    for client in field.clients[:4]:
        field.start(client, counting(client))
    field.start(field.clients[4], waiting(field.clients[4]), harm=False)
    field.run()
    state = field.state("gate", "latch")
    return field, tally, count if state is None else state["left"]


# -- barrier


class NotedOwners(Owners):
    """Tells which mark was given to whom."""

    __slots__ = ("given",)

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.given: list[str] = []

    def token(self) -> str:
        token = super().token()
        self.given.append(token)
        return token


def simulate_barrier(
    seed: int, *, faults: bool = True, parties: int = 3, clients: int = 3, rounds: int = 3
) -> tuple[Field, dict[str, str]]:
    """Meet again and again; returns what each visit was told, after checking it against what the server saw."""
    field = Field(seed, clients, faults=faults)
    told: dict[str, str] = {}
    passed: dict[int, set[str]] = {}

    def look() -> None:
        state = field.state("meet", "barrier")
        if state is not None and state["leaving"]:
            marks = passed.setdefault(state["round"] - 1, set(state["leaving"]))
            assert len(marks) == parties, f"a round passed with {marks}"

    field.world.invariant(look)

    async def visiting(client: Client) -> None:
        owners = NotedOwners(client.host.name)
        for _ in range(rounds):
            await client.host.sleep(field.world.random.uniform(0.0, 0.2))
            protocol = BarrierProtocol(client.protocol, "meet", parties, WEEK, owners)
            outcome = "cancelled"
            try:
                place = await protocol.wait(40.0)
                outcome = f"passed {place}"
            except BrokenBarrier:
                outcome = "broken"
            except (Rejected, Unavailable):
                outcome = "refused"
            except OutcomeUnknown:
                outcome = "unknown"
            finally:
                if not client.host.dead:
                    told[owners.given[-1]] = outcome
            if outcome == "broken":
                try:
                    await protocol.reset(parties)
                except (Unavailable, OutcomeUnknown):
                    return

    for client in field.clients:
        field.start(client, visiting(client))
    field.run(settle=60.0)
    through = set[str]().union(*passed.values())
    for mark, outcome in told.items():
        if outcome.startswith("passed"):
            assert mark in through, f"{mark} was told that it passed, in no round that had"
        elif outcome == "broken":
            assert mark not in through, f"{mark} was told that its round broke, and it had passed"
    for marks in passed.values():
        places = [told[mark] for mark in marks if told.get(mark, "").startswith("passed")]
        assert len(places) == len(set(places)), "two parties came at the same place"
    return field, told


# -- stock


class Books:
    """What is said of a stock, beside what the server has."""

    def __init__(self, field: Field, total: int, segments: int) -> None:
        self.field, self.total, self.segments = field, total, segments
        self.commits = Tally()
        self.least: dict[int, int] = {}  # a take that is under way -> the least that was free meanwhile
        self.sold_out = 0

    def parts(self) -> list[Any]:
        """Return the segments, as the server has them."""
        states = [self.field.state(f"apples#{number}", "stock") for number in range(self.segments)]
        return [None if state is None else SegmentForm().load(state) for state in states]

    def check(self) -> None:
        """Nothing is lost or made, at every step."""
        parts = self.parts()
        if None in parts:
            return
        now = self.field.server.host.now()
        free = [part.at(now).free for part in parts]
        assert all(each >= 0 for each in free), f"more was taken than there is: {parts}"
        assert sum(part.total for part in parts) == self.total
        for take in self.least:
            self.least[take] = min(self.least[take], sum(free))


def simulate_stock(seed: int, *, faults: bool = True, total: int = 10, segments: int = 3) -> tuple[Field, Books, int]:
    """Buy from all sides; returns what is sold at the server."""
    field = Field(seed, 4, faults=faults)
    books = Books(field, total, segments)
    chance = field.world.random
    field.world.invariant(books.check)

    async def filling(client: Client) -> None:
        for _ in range(50):
            try:
                await StockProtocol(client.protocol, "apples", segments, Owners(client.host.name)).fill(total)
                return
            except (Unavailable, OutcomeUnknown):
                continue
        raise AssertionError("never filled")

    async def buying(client: Client) -> None:
        stock = StockProtocol(client.protocol, "apples", segments, Owners(client.host.name))
        while None in books.parts():
            await client.host.sleep(0.05)
        for turn in range(4):
            await client.host.sleep(chance.uniform(0.0, 0.3))
            quantity, call = chance.choice((1, 1, 2, 4)), id(client) + turn
            books.least[call] = total
            try:
                hold = await stock.take(quantity, 2.0, 0.0)
            except Rejected:
                books.sold_out += 1
                assert books.least[call] < quantity, f"{books.least[call]} were there all the time"
                continue
            except (Unavailable, OutcomeUnknown):
                continue
            finally:
                books.least.pop(call, None)
            await client.host.sleep(chance.uniform(0.0, 0.5))
            if chance.random() < 0.7:
                await selling(stock, hold, quantity)
            else:
                await stock.give_back(hold)

    async def selling(stock: StockProtocol, hold: Any, quantity: int) -> None:
        try:
            await books.commits.count(stock.commit(hold), quantity)
        except LockLost:
            if len(hold.parts) == 1:  # of several the first may have been sold
                books.commits.refused += quantity

    field.start(field.clients[0], filling(field.clients[0]), harm=False)
    for client in field.clients[1:]:
        field.start(client, buying(client))
    field.run(settle=30.0)
    return field, books, sum(part.sold for part in books.parts())


# -- election


class Candidate:
    """A client that stands, and what its work did."""

    def __init__(self, field: Field, client: Client, ttl: float, lock_delay: float) -> None:
        self.field, self.client = field, client
        self.campaign: Campaign[AsyncLeadership] = Campaign(
            client.protocol, "chair", client.host.name, candidacy(ttl, None, lock_delay, 0.0, 1.0), ASYNCIO_COLOUR
        )
        self.inside: list[AsyncLeadership] = []
        self.terms: list[tuple[float, int]] = []
        self.wrong: list[str] = []
        self.harmed = field.faults  # the run itself may be cancelled, and its body with it

    async def body(self, leadership: AsyncLeadership) -> str:
        """Lead for a while; sometimes end slowly, sometimes fail."""
        chance = self.field.world.random
        self.inside.append(leadership)
        if len(self.inside) > 1:
            self.wrong.append(f"{leadership} began before {self.inside[0]} had ended")
        self.terms.append((self.field.world.time, leadership.term))
        try:
            await self.client.host.sleep(chance.uniform(0.0, 3.0))
            if chance.random() < 0.2:
                raise LookupError("the work failed")
            return "done"
        except asyncio.CancelledError:
            if leadership.is_valid() and not self.harmed:
                self.wrong.append(f"{leadership} was cancelled for nothing")
            if chance.random() < 0.3:
                await self.client.host.sleep(chance.uniform(0.0, 2.0))  # it ends slowly
            raise
        finally:
            self.inside.remove(leadership)

    async def stand(self, turns: int) -> None:
        """Be elected so many times."""
        for _ in range(turns):
            try:
                await self.campaign.run(self.body)
            except LookupError:
                continue

    def believes(self) -> list[AsyncLeadership]:
        """Return the leaderships that are valid by this process's own clock."""
        return [] if self.client.host.dead else [each for each in self.inside if each.is_valid()]


def simulate_election(
    seed: int, *, faults: bool = True, candidates: int = 3, ttl: float = 1.0, lock_delay: float = 0.0
) -> tuple[Field, list[Candidate]]:
    """Elect again and again, checking after every step."""
    field = Field(seed, candidates, faults=faults)
    everybody = [Candidate(field, client, ttl, lock_delay) for client in field.clients]
    numbers: list[int] = []

    def one_leader() -> None:
        valid = [each for candidate in everybody for each in candidate.believes()]
        assert len(valid) <= 1, f"two valid leaderships: {valid}"

    def news_rise() -> None:
        state = field.state("chair", "election")
        if state is None:
            return
        number, event, term, _, _ = state["news"][-1]
        if not numbers or number != numbers[-1]:
            terms = [each[2] for each in state["news"]]
            assert terms == sorted(terms), f"news out of order: {state['news']}"
            assert [each[0] for each in state["news"]] == list(range(number - len(terms) + 1, number + 1))
            assert not numbers or number <= numbers[-1] + 3, "a leader wrote more than it may"
            assert event in ("elected", "ended") and term > 0
            numbers.append(number)

    field.world.invariant(one_leader)
    field.world.invariant(news_rise)
    for candidate in everybody:
        field.start(candidate.client, candidate.stand(3))
    if faults and field.world.random.random() < 0.2:
        stall = field.world.random.uniform(0.1, 1.5)
        field.world.at(field.world.random.uniform(0.0, 4.0), lambda: field.server.host.stall(stall))
    field.run(settle=30.0)
    for candidate in everybody:
        assert not candidate.wrong, candidate.wrong
    return field, everybody
