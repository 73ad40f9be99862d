"""TCC in the simulated world: the shipped coordinator, journal statements, barrier and recovery.

Only what carries them is simulated: time, hosts, messages, and the wire to the journal's database. The
databases are SQLite in memory; their clock is the world's, by a `julianday` of our own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import StaticPool

from backstay.errors import BackstayError, OutcomeUnknown, Unavailable
from backstay.simulation import Host, Network, World
from backstay.txn import Backoff, Branch, Outcome, Participant, Settings, TransactionCancelled, TryRefused
from backstay.txn.barrier.schema import metadata as barrier_metadata
from backstay.txn.cast import Cast
from backstay.txn.errors import AlreadyCancelled, AlreadyConfirmed, AlreadyRun, JournalUnanswered
from backstay.txn.journals.schema import metadata as journal_metadata, migrate
from backstay.txn.journals.sql import SqlJournal
from backstay.txn.tcc.states import Event, State, outcome
from backstay.txn.tcc.transport import Request
from backstay.txn.tcc.work import Call
from backstay.txn.values import Answer, Reply, Target

T = TypeVar("T")

START = 100
BEGAN = 1_795_000_000.0  # the databases' time when a world begins


class Clock:
    """The time that all databases of the present world tell."""

    world: World | None = None

    @classmethod
    def julianday(cls, _: str) -> float:
        seconds = BEGAN + (0.0 if cls.world is None else cls.world.time)
        return 2440587.5 + seconds / 86400


@cache
def database(name: str) -> Engine:
    """Return a database that all worlds use one after another; making tables would take longer than a world."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.create_function("julianday", 1, Clock.julianday)

    with engine.begin() as connection:
        if name == "journal":
            migrate(connection)
        else:
            barrier_metadata.create_all(connection)
            connection.execute(text("CREATE TABLE account (free INTEGER, held INTEGER, spent INTEGER)"))
    return engine


def close_databases() -> None:
    """Close what the worlds have used; the next world makes databases anew."""
    for name in ("journal", *Shop.names):
        database(name).dispose()
    database.cache_clear()


def emptied(name: str) -> Engine:
    engine = database(name)
    with engine.begin() as connection:
        tables = journal_metadata if name == "journal" else barrier_metadata
        for table in reversed(tables.sorted_tables):
            if table.name != "backstay_txn_schema":
                connection.execute(table.delete())
        if name != "journal":
            connection.execute(text("DELETE FROM account"))
            connection.execute(text("INSERT INTO account VALUES (:free, 0, 0)"), {"free": START})
    return engine


class Wire:
    """The connection of one coordinator to the journal's database, which may break around a COMMIT."""

    dialect = "sqlite"

    def __init__(self, host: Host, engine: Engine, shop: Shop) -> None:
        self._host, self._engine, self._shop = host, engine, shop

    async def write(self, operation: Callable[[Connection], T]) -> T:
        world = self._host.world
        await self._host.sleep(world.random.uniform(0.0002, 0.003))  # a crash in here: it was not written
        trouble = world.random.random() if self._shop.journal_trouble else 1.0
        if trouble < self._shop.journal_trouble:
            await self._host.sleep(0.01)
            if trouble < self._shop.journal_trouble / 2:
                raise JournalUnanswered("the wire broke before the COMMIT arrived")
            raise Unavailable("the wire broke before the COMMIT was sent")
        with self._engine.begin() as connection:
            result = operation(connection)
        await self._host.sleep(world.random.uniform(0.0002, 0.003))  # a crash in here: it was written
        if trouble < self._shop.journal_trouble * 2:
            raise JournalUnanswered("the wire broke behind the COMMIT")
        return result

    async def read(self, operation: Callable[[Connection], T]) -> T:
        await self._host.sleep(self._host.world.random.uniform(0.0002, 0.003))
        with self._engine.begin() as connection:
            return operation(connection)

    async def close(self) -> None:
        return None


class WitnessedJournal(SqlJournal):
    """The journal, with every decision that anybody was told noted for I3."""

    def __init__(self, wire: Wire, shop: Shop) -> None:
        super().__init__(wire)
        self._shop = shop

    async def decide(self, lease: Any, gtrid: str, event: Event, **options: Any) -> State | None:
        state = await super().decide(lease, gtrid, event, **options)
        if state is not None and outcome(state) is not Outcome.IN_DOUBT:
            self._shop.decisions.setdefault(gtrid, set()).add(outcome(state))
        return state


class Letters:
    """The transport: requests and replies are messages, which are lost, late and doubled."""

    def __init__(self, host: Host, shop: Shop) -> None:
        self._host, self._shop = host, shop

    async def send(self, request: Request) -> Reply:
        where, participant = self._shop.participants[request.target.address]
        if where.dead:
            return Reply(answer=Answer.UNSENT, text="connection refused")
        try:
            return await self._host.request(
                lambda: participant.perform(request.branch), to=where, timeout=request.timeout
            )
        except (TimeoutError, ConnectionRefusedError) as error:  # refused: another copy may still arrive
            return Reply(answer=Answer.UNKNOWN, text=repr(error), error=error)


def account(name: str, engine: Engine) -> Participant:
    """An account of 100 units: try moves units from free to held, confirm to spent, cancel back."""

    def reserve(connection: Connection, branch: Branch, *, units: int) -> dict[str, int]:
        held = connection.execute(
            text("UPDATE account SET free = free - :n, held = held + :n WHERE free >= :n"), {"n": units}
        )
        if held.rowcount != 1:
            raise TryRefused(f"{name} has fewer than {units} units")
        return {"held": units}

    def spend(connection: Connection, branch: Branch, *, units: int) -> None:
        assert branch.result == {"held": units}
        connection.execute(text("UPDATE account SET held = held - :n, spent = spent + :n"), {"n": units})

    def give_back(connection: Connection, branch: Branch, *, units: int) -> None:
        connection.execute(text("UPDATE account SET held = held - :n, free = free + :n"), {"n": units})

    return Participant(name, engine, try_=reserve, confirm=spend, cancel=give_back, create=False)


@dataclass(slots=True, kw_only=True)
class Basket:
    """One purchase: `units` by participant, and what its client was told."""

    key: str
    units: dict[str, int]
    parallel: bool
    think: float
    gives_up: bool
    told: dict[str, Outcome] = field(default_factory=dict[str, Outcome])


class Shop:
    """Coordinators, participants and purchases in one world."""

    names = ("stock", "payments", "orders")

    def __init__(
        self, seed: int, *, network: Network | None = None, journal_trouble: float = 0.0, baskets: int = 8
    ) -> None:
        self.world = World(seed, network=network or Network())
        Clock.world = self.world
        self.journal_trouble = journal_trouble
        self.decisions: dict[str, set[Outcome]] = {}
        self.engines = {name: emptied(name) for name in ("journal", *self.names)}
        self.participants = {name: (self.world.host(name), account(name, self.engines[name])) for name in self.names}
        self.settings = Settings(
            deadline=2.0,
            timeout=0.4,
            patience=0.5,
            lease=1.0,
            recover_every=0.3,
            journal_patience=0.3,
            backoff=Backoff(first=0.05, cap=0.5, attempts=10_000),
        )
        self._owners = itertools.count(1)
        self.hosts = [self.world.host("web-1"), self.world.host("web-2")]
        chance = self.world.random
        self.baskets = [self._basket(number, chance) for number in range(baskets)]
        self.casts: list[Cast] = []
        self.world.invariant(self._one_decision)

    def _basket(self, number: int, chance: Any) -> Basket:
        names = chance.sample(self.names, chance.randint(1, 3))
        return Basket(
            key=f"basket:{number}",
            units={name: chance.choice((1, 7, 30, 60)) for name in names},
            parallel=chance.random() < 0.3,
            think=chance.choice((0.0, 0.0, 0.01, 0.3, 2.5)),
            gives_up=chance.random() < 0.15,
        )

    def _one_decision(self) -> None:
        for gtrid, told in self.decisions.items():
            assert len(told) == 1, f"I3: {gtrid} was decided twice: {told}"

    # --- what happens ----------------------------------------------------------------------------

    def open(self, host: Host) -> Cast:
        """Start a coordinator process on a host."""
        name = f"{host.name}-1-{next(self._owners):06x}"
        journal = WitnessedJournal(Wire(host, self.engines["journal"], self), self)
        numbers = itertools.count(1)
        cast = Cast(
            journal=journal,
            transport=Letters(host, self),
            runtime=host,
            settings=self.settings,
            name=name,
            gtrid=lambda epoch, seconds: f"tcc-{name.rpartition('-')[2]}-{epoch}-{int(seconds):x}-{next(numbers):08x}",
        )
        self.casts.append(cast)
        return cast

    def sell(self, host: Host, baskets: list[Basket], *, patience: bool = True) -> None:
        """Start a process that runs these baskets, some side by side."""
        cast = self.open(host)
        for basket in baskets:
            task = self.world.start(host, self._client(host, cast, basket), name=basket.key)
            if self.world.random.random() < 0.1 and not patience:
                self.world.at(self.world.random.uniform(0.0, 2.0), task.cancel)  # its client went away

    async def _client(self, host: Host, cast: Cast, basket: Basket) -> None:
        try:
            await self._purchase(host, cast, basket)
        except (BackstayError, asyncio.CancelledError):
            return

    async def _purchase(self, host: Host, cast: Cast, basket: Basket) -> None:
        await host.sleep(self.world.random.uniform(0.0, 1.0))
        coordinator = cast.coordinator
        try:
            work = await coordinator.begin(basket.key, None)
        except AlreadyRun as repeated:
            self._told_again(basket, repeated)
            raise
        calls = [
            Call(target=Target(kind="action", address=name), payload={"units": n}) for name, n in basket.units.items()
        ]
        error: BaseException | None = None
        try:
            for group in [calls] if basket.parallel else [[call] for call in calls]:
                await coordinator.call(work, group)
            await host.sleep(basket.think)
            if basket.gives_up:
                raise LookupError("the block failed")
        except GeneratorExit:
            raise
        except AlreadyRun as again:
            self._told_again(basket, again)
            error = again
        except BaseException as failure:
            error = failure
        try:
            await coordinator.leave(work, error)
        except (OutcomeUnknown, asyncio.CancelledError):
            return
        except (TransactionCancelled, Unavailable):
            basket.told[work.gtrid] = Outcome.CANCELLED
            return
        if not work.opened:
            return
        if error is None:
            basket.told[work.gtrid] = Outcome.CONFIRMED
        elif not isinstance(error, asyncio.CancelledError):
            basket.told[work.gtrid] = Outcome.CANCELLED

    def _told_again(self, basket: Basket, error: AlreadyRun) -> None:
        if isinstance(error, AlreadyConfirmed):
            basket.told[error.gtrid] = Outcome.CONFIRMED
        elif isinstance(error, AlreadyCancelled):
            basket.told[error.gtrid] = Outcome.CANCELLED

    def trouble(self) -> None:
        """Plan crashes, restarts, stalls longer than a lease, and partitions."""
        chance, world = self.world.random, self.world
        for _ in range(chance.randint(0, 3)):
            host = chance.choice(self.hosts)
            when = chance.uniform(0.05, 3.0)
            world.at(when, host.crash)
            world.at(when + chance.uniform(0.1, 3.0), partial(self._restart, host))
        for _ in range(chance.randint(0, 2)):
            host = chance.choice(self.hosts)
            world.at(chance.uniform(0.05, 3.0), partial(host.stall, chance.uniform(0.2, 4.0)))
        for _ in range(chance.randint(0, 2)):
            where = self.participants[chance.choice(self.names)][0]
            when = chance.uniform(0.05, 3.0)
            world.at(when, where.crash)
            world.at(when + chance.uniform(0.1, 2.0), where.restart)
        if chance.random() < 0.3:
            where = self.participants[chance.choice(self.names)][0]
            part = lambda: world.part(chance.choice(self.hosts), where, chance.uniform(0.1, 2.0))  # noqa: E731
            world.at(chance.uniform(0.0, 2.0), part)

    def _restart(self, host: Host) -> None:
        if host.dead:
            host.restart()
            # Clients whose process died come again with the same key, as real ones do.
            self.sell(host, [basket for basket in self.baskets if self.world.random.random() < 0.3], patience=False)

    def quiesce(self) -> int:
        """End all faults, recover until nothing is unfinished, let late copies arrive; return the rounds it took."""
        self.world.run(until=self.world.time + 16.0)
        self.world.network = Network()
        self.journal_trouble = 0.0
        self.world.partitions.clear()
        for host, _ in self.participants.values():
            host.dead = False
        recoverer = self.world.host("recoverer")
        cast = self.open(recoverer)
        rounds = 0

        async def recover() -> None:
            nonlocal rounds
            while rounds < 200:
                rounds += 1
                await cast.recoverer.round(grace=0.0)
                if not self.unfinished():
                    return
                await recoverer.sleep(0.2)

        self.world.start(recoverer, recover(), name="recover")
        self.world.run(settle=4.0)
        return rounds

    # --- what must hold --------------------------------------------------------------------------

    def unfinished(self) -> int:
        with self.engines["journal"].begin() as connection:
            found = connection.scalar(
                text("SELECT count(*) FROM backstay_txn_transaction WHERE state NOT IN ('confirmed', 'cancelled')")
            )
        return int(found or 0)

    def transactions(self) -> dict[str, tuple[str, State]]:
        """Return key and state by gtrid."""
        with self.engines["journal"].begin() as connection:
            rows = connection.execute(text("SELECT gtrid, idempotency_key, state FROM backstay_txn_transaction"))
            return {row.gtrid: (row.idempotency_key, State(row.state)) for row in rows}

    def audit(self) -> None:
        """Check I1, I3, I4, I5 and I7 on the databases at rest."""
        self._one_decision()
        found = self.transactions()
        assert self.unfinished() == 0, "I5: transactions are left unfinished"
        baskets = {basket.key: basket for basket in self.baskets}
        for basket in self.baskets:
            for gtrid, told in basket.told.items():
                if gtrid in found:
                    state = found[gtrid][1]
                    assert outcome(state) is told, f"I4: {basket.key} was told {told} and is {state}"
                else:
                    assert told is Outcome.CANCELLED, f"I4: {basket.key} was told {told} and is not in the journal"
        confirmed = [baskets[key] for key, state in found.values() if state is State.CONFIRMED]
        for name in self.names:
            spent = sum(basket.units.get(name, 0) for basket in confirmed)
            with self.engines[name].begin() as connection:
                row = connection.execute(text("SELECT free, held, spent FROM account")).one()
                hanging = connection.scalar(
                    text(
                        "SELECT count(*) FROM backstay_barrier a WHERE phase = 'try' AND NOT EXISTS (SELECT 1 FROM "
                        "backstay_barrier b WHERE b.gtrid = a.gtrid AND b.branch = a.branch AND b.phase = 'end')"
                    )
                )
            assert (row.spent, row.held, row.free) == (spent, 0, START - spent), (
                f"I1/I7: {name} has {row}, sold {spent}"
            )
            assert hanging == 0, f"{name} has {hanging} tries that nobody will end"


def run(seed: int) -> Shop:
    """Run one world with faults, bring it to rest, audit it, and return it."""
    faults = Network(loss=0.06, duplicate=0.08, long_delays=0.05, long_delay=(0.3, 6.0))
    shop = Shop(seed, network=faults, journal_trouble=0.03)
    half = len(shop.baskets) // 2
    shop.sell(shop.hosts[0], shop.baskets[:half], patience=False)
    shop.sell(shop.hosts[1], shop.baskets[half:] + shop.baskets[:1], patience=False)
    shop.trouble()
    shop.quiesce()
    shop.audit()
    return shop
