"""What every write-behind must do, on any cache and any database, for threads and for loops."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from backstay.blocking import drive
from backstay.errors import Degraded, Misuse
from backstay.resilience.write_behind import (
    AsyncWriteBehind,
    Balances,
    Insufficient,
    Mismatched,
    NoSuchBalance,
    Phase,
    Reading,
    Receipt,
    Settings,
    WriteBehind,
)

BALANCES = Balances(table="stock", key="sku", balance="on_hand")
STOCK = {"apple": 10, "pear": 5, "plum": 0}


class Looped:
    """The asyncio face, called from a test that is none."""

    def __init__(self, face: AsyncWriteBehind) -> None:
        self.face = face
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.face, name)
        return lambda *given, **named: self.loop.run_until_complete(method(*given, **named))

    def close(self) -> None:
        self.loop.run_until_complete(self.face.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Site:
    """A database with a table of balances, a cache, and the faces on both."""

    def __init__(self, cache: Any, database: str, colour: str = "sync", **settings: Any) -> None:
        self.engine: Engine = create_engine(database, pool_pre_ping=True)
        self.cache, self.database = cache, database
        with self.engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE stock (sku VARCHAR(60) PRIMARY KEY, on_hand BIGINT NOT NULL, note VARCHAR(60))")
            )
            for key, balance in STOCK.items():
                connection.execute(
                    text("INSERT INTO stock (sku, on_hand) VALUES (:key, :balance)"), {"key": key, "balance": balance}
                )
        self.made: list[Any] = []
        self.settings = Settings(**settings)
        self.plain = self.another()
        self.plain.create_tables()
        self.face: Any = self.plain
        if colour == "async":
            given: Any = self.plain._core.cache if cache == "memory://" else cache
            face = AsyncWriteBehind.connect(
                "stock", cache=given, database=database, balances=BALANCES, settings=self.settings
            )
            self.face = Looped(face)
            self.made.append(self.face)
        self.consumer = self.plain.consumer(name="first")

    def another(self) -> WriteBehind:
        """The face of another process."""
        given: Any = self.cache
        if given == "memory://" and self.made:  # one process has one memory
            given = self.made[0]._core.cache
        made = WriteBehind.connect(
            "stock", cache=given, database=self.database, balances=BALANCES, settings=self.settings
        )
        self.made.append(made)
        return made

    def sync(self) -> int:
        """Bring all over that can be."""
        return sum(iter(self.consumer.step, 0))

    def stored(self, key: str = "apple") -> int:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT on_hand FROM stock WHERE sku = :key"), {"key": key}).scalar()
        assert found is not None
        return int(found)

    def store(self, key: str, balance: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                text("UPDATE stock SET on_hand = :balance WHERE sku = :key"), {"key": key, "balance": balance}
            )

    def close(self) -> None:
        for made in self.made:
            made.close()
        self.engine.dispose()


class Contract:
    """Inherit it, and give a fixture `site`."""

    def test_WD1_never_below_zero_and_each_id_once(self, site: Site) -> None:
        site.face.enter()
        assert site.face.deduct("o1", "apple", 4) == Receipt(op="o1", key="apple", delta=-4, left=6, source="cache")
        with pytest.raises(Insufficient) as refusal:
            site.face.deduct("o2", "apple", 7)
        assert refusal.value.left == 6
        assert site.face.deduct("o3", "apple", 6).left == 0
        assert site.face.balance("apple").balance == 0

    def test_WD1_threads_share_one_balance_exactly(self, site: Site) -> None:
        site.face.enter()
        ids = itertools.count()
        done: list[int] = []

        def many() -> None:
            for _ in range(10):
                try:
                    done.append(site.plain.deduct(f"t{next(ids)}", "apple", 1).left)
                except Insufficient:
                    continue

        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == list(range(10))

    @pytest.mark.parametrize("turn", ["database", "cache"])
    def test_WD2_the_same_id_gets_the_recorded_result(self, site: Site, turn: str) -> None:
        if turn == "cache":
            site.face.enter()
        first = site.face.deduct("o1", "apple", 4)
        site.face.give_back("o2", "apple", 1)
        again = site.face.deduct("o1", "apple", 4)
        assert (again.left, again.repeated, first.repeated) == (6, True, False)
        assert site.face.balance("apple").balance == 7
        assert site.face.outcome("o1").left == 6
        assert site.face.outcome("never") is None

    def test_WD2_a_refusal_is_recorded_as_well(self, site: Site) -> None:
        site.face.enter()
        with pytest.raises(Insufficient):
            site.face.deduct("o1", "plum", 1)
        site.face.give_back("o2", "plum", 5)
        with pytest.raises(Insufficient):
            site.face.deduct("o1", "plum", 1)
        assert site.face.balance("plum").balance == 5

    def test_WD2_ids_outlive_the_turn_in_both_directions(self, site: Site) -> None:
        site.face.deduct("before", "apple", 1)
        site.face.enter()
        assert site.face.deduct("before", "apple", 1).repeated
        site.face.deduct("during", "apple", 1)
        site.sync()
        site.face.leave(timeout=0)
        assert site.face.deduct("during", "apple", 1).repeated
        site.face.enter()
        assert site.face.deduct("during", "apple", 1).repeated
        assert site.face.balance("apple").balance == 8

    def test_WD2_an_id_of_another_operation_is_refused(self, site: Site) -> None:
        for _ in range(2):
            site.face.deduct("o1", "apple", 1)
            for wrong in (("o1", "apple", 2), ("o1", "pear", 1)):
                with pytest.raises(Misuse, match="belongs to"):
                    site.face.deduct(*wrong)
            site.face.enter()

    def test_WD3_the_database_follows_with_effect_exactly_once(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        site.face.give_back("o2", "pear", 3)
        assert (site.stored(), site.stored("pear")) == (10, 5)
        entries = drained(site, "elsewhere")
        assert [entry.op for entry in entries] == ["o1", "o2"]
        for _ in range(3):  # delivered three times
            site.plain._core.ledger.apply(entries)
        assert (site.stored(), site.stored("pear")) == (6, 8)
        assert site.plain.status().pending == 2
        assert run(site.plain._core.cache.ack(entries)) == 2
        assert run(site.plain._core.cache.ack(entries)) == 0
        assert site.plain.status().pending == 0

    def test_WD4_operations_of_a_key_keep_their_order(self, site: Site) -> None:
        site.face.enter()
        for number in range(3):
            site.face.deduct(f"o{number}", "apple", 1)
        first, second, third = drained(site, "elsewhere")
        ledger = site.plain._core.ledger
        assert [word.value for word in ledger.apply([third, second])] == ["waiting", "waiting"]
        assert site.stored() == 10
        assert [word.value for word in ledger.apply([third, first, second])] == ["applied"] * 3
        assert site.stored() == 7

    def test_WD4_poison_is_parked_its_key_frozen_and_others_go_on(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("bad", "apple", 4)
        site.face.deduct("behind", "apple", 1)
        site.face.deduct("good", "pear", 2)
        site.store("apple", 0)  # somebody else wrote the balance: the operation cannot be applied
        for _ in range(8):
            site.consumer.step()
        assert site.stored("pear") == 3
        assert [entry.op for entry, _ in site.plain.parked()] == ["bad", "behind"]
        status = site.plain.status()
        assert (status.pending, status.parked, status.frozen) == (0, 2, 1)
        with pytest.raises(Degraded, match="frozen"):
            site.face.deduct("o9", "apple", 1)
        assert site.face.balance("apple").balance == 5
        with pytest.raises(Mismatched, match="parked"):
            site.face.leave(timeout=0)
        site.store("apple", 10)
        assert site.plain.retry("apple") == 2
        site.sync()
        site.face.leave(timeout=0)
        assert site.stored() == 5

    def test_WD4_entries_of_a_dead_consumer_are_taken_over(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        assert len(drained(site, "dead")) == 1
        assert site.consumer.step() == 0
        heir = site.plain.consumer(name="heir", claim_after=0.000001)
        assert sum(heir.step() for _ in range(3)) == 1
        assert site.stored() == 6

    def test_WD4_a_restarted_consumer_goes_on_with_its_own_entries_at_once(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        assert len(drained(site, "first")) == 1
        assert site.plain.consumer(name="first").step() == 1
        assert site.stored() == 6

    def test_WD5_reads_see_operations_that_are_pending(self, site: Site) -> None:
        assert site.face.balance("apple") == Reading(balance=10, source="database")
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        assert site.face.balance("apple") == Reading(balance=6, source="cache", pending=1)
        assert site.another().balance("apple") == Reading(balance=6, source="cache", pending=1)
        site.sync()
        assert site.face.balance("apple") == Reading(balance=6, source="cache")
        site.face.leave(timeout=0)
        assert site.face.balance("apple") == Reading(balance=6, source="database")

    def test_WD6_each_step_may_be_repeated_by_anybody(self, site: Site) -> None:
        assert site.face.enter() == site.another().enter() == 1
        site.face.deduct("o1", "apple", 4)
        assert site.another().enter() == 1  # loads nothing over what was accepted
        assert site.face.balance("apple").balance == 6
        site.sync()
        site.face.leave(timeout=0)
        site.another().leave(timeout=0)
        assert site.face.enter() == 2
        assert site.face.balance("apple").balance == 6

    def test_WD6_nothing_is_accepted_while_the_cache_drains(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        with pytest.raises(Degraded, match="1 operations wait"):
            site.face.leave(timeout=0)
        with pytest.raises(Degraded, match="changing hands"):
            site.face.deduct("o2", "apple", 1)
        assert site.face.deduct("o1", "apple", 4).repeated
        assert site.face.balance("apple") == Reading(balance=6, source="cache", pending=1)
        with pytest.raises(Degraded, match="leave"):
            site.face.enter()
        site.sync()
        site.face.leave(timeout=0)
        assert site.face.deduct("o2", "apple", 1).source == "database"

    def test_WD6_a_mismatch_blocks_the_way_back(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 4)
        site.sync()
        site.store("apple", 7)
        for _ in range(2):
            with pytest.raises(Mismatched, match="apple: cache 6, database 7") as told:
                site.face.leave(timeout=0)
            assert told.value.keys == {"apple": (6, 7)}
        assert any(record.levelname == "ERROR" for record in caplog.records)
        with pytest.raises(Degraded):
            site.face.deduct("o2", "pear", 1)
        site.store("apple", 6)
        site.face.leave(timeout=0)
        assert site.face.deduct("o2", "pear", 1).source == "database"

    @pytest.mark.parametrize("method", ["begin", "remember", "load", "before_cache", "open"])
    def test_WD6_enter_that_dies_anywhere_is_taken_up_by_the_next(
        self, site: Site, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.face.deduct("o0", "apple", 1)
        dies(site.plain, method, monkeypatch)
        with pytest.raises(Died):
            site.plain.enter()
        monkeypatch.undo()
        with pytest.raises(Degraded):
            site.plain.deduct("o1", "apple", 1)  # neither of the two has it
        fence = site.another().enter()
        assert fence == (1 if method == "open" else 2)
        assert site.face.deduct("o1", "apple", 1).left == 8

    @pytest.mark.parametrize("method", ["drain", "finish", "before_database"])
    def test_WD6_leave_that_dies_anywhere_is_taken_up_by_the_next(
        self, site: Site, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.plain.enter()
        site.plain.deduct("o1", "apple", 1)
        site.sync()
        dies(site.plain, method, monkeypatch)
        with pytest.raises(Died):
            site.plain.leave(timeout=0)
        monkeypatch.undo()
        site.another().leave(timeout=0)
        assert site.face.deduct("o2", "apple", 1) == Receipt(op="o2", key="apple", delta=-1, left=8, source="database")

    def test_WD6_a_loader_that_was_overtaken_is_refused_by_its_fence(self, site: Site) -> None:
        ledger, cache = site.plain._core.ledger, site.plain._core.cache
        assert ledger.step([("database", 0)], "entering", 1)
        assert run(cache.step("begin", 1)) == ("ok", "loading")
        assert site.another().enter() == 2
        assert run(cache.load(1, [("apple", 99, 0)])) is False
        assert run(cache.step("open", 1))[0] == "stale"
        assert not ledger.step([("entering", 1)], "cache", 1)
        assert site.face.balance("apple").balance == 10

    def test_WD6_an_enter_that_was_begun_can_be_given_up(self, site: Site) -> None:
        assert site.plain._core.ledger.step([("database", 0)], "entering", 1)
        site.face.leave(timeout=0)
        assert site.face.deduct("o1", "apple", 1).source == "database"
        assert site.face.enter() == 3

    def test_WD7_what_waits_is_counted(self, site: Site) -> None:
        site.face.enter()
        site.face.deduct("o1", "apple", 1)
        site.face.deduct("o2", "pear", 1)
        status = site.plain.status()
        assert (status.phase, status.pending, status.parked) == (Phase.OPEN, 2, 0)
        assert 0 <= status.lag < 60
        site.sync()
        assert site.consumer.status == site.plain.status()
        assert site.consumer.status.pending == 0

    def test_keys_without_a_balance_are_refused(self, site: Site) -> None:
        for _ in range(2):
            for call in (site.face.deduct, site.face.give_back):
                with pytest.raises(NoSuchBalance):
                    call("o1", "no such", 1)
            with pytest.raises(NoSuchBalance):
                site.face.balance("no such")
            site.face.enter()

    def test_bad_input_changes_nothing(self, site: Site) -> None:
        site.face.enter()
        for op, key, amount in (
            ("", "apple", 1), ("o", "", 1), ("o\n", "apple", 1), ("o ", "apple", 1), ("o", "apple", 0),
            ("o", "apple", 1.5), ("o", "apple", True), ("o", "apple", 10**15 + 1), (7, "apple", 1),
            ("o", "apple", -1), ("o" * 201, "apple", 1),
        ):  # fmt: skip
            with pytest.raises(Misuse):
                site.face.deduct(op, key, amount)
        with pytest.raises(Misuse):
            site.face.leave(timeout=-1)
        assert site.plain.status().pending == 0

    def test_strange_names_stay_names(self, site: Site) -> None:
        with site.engine.begin() as connection:
            connection.execute(text("INSERT INTO stock (sku, on_hand) VALUES (:key, 3)"), {"key": "a}{:b' ö%"})
        site.face.enter()
        assert site.face.deduct("x}{ '%s", "a}{:b' ö%", 1).left == 2
        site.sync()
        site.face.leave(timeout=0)
        assert site.stored("a}{:b' ö%") == 2

    def test_balances_up_to_ten_to_the_fifteenth_are_exact(self, site: Site) -> None:
        site.store("apple", 10**15 - 1)
        site.face.enter()
        assert site.face.give_back("o1", "apple", 1).left == 10**15
        with pytest.raises(Exception, match="above"):
            site.face.give_back("o2", "apple", 1)
        assert site.face.deduct("o3", "apple", 10**15 - 1).left == 1
        site.sync()
        site.face.leave(timeout=0)
        assert site.stored() == 1


class Died(Exception):
    """Stands for the end of a process between two steps."""


def dies(subject: WriteBehind, where: str, patch: pytest.MonkeyPatch) -> None:
    """Let the next step of that name be the one before which the process dies."""
    cache, ledger = subject._core.cache, subject._core.ledger

    def die() -> Any:
        raise Died

    if where in ("begin", "open", "drain", "finish"):
        step = cache.step
        patch.setattr(cache, "step", lambda name, fence: die() if name == where else step(name, fence))
    elif where in ("before_cache", "before_database"):
        to = where.removeprefix("before_")
        turn = ledger.step
        patch.setattr(ledger, "step", lambda was, phase, fence: die() if phase == to else turn(was, phase, fence))
    else:
        patch.setattr(cache, where, lambda *_: die())


def drained(site: Site, consumer: str) -> list[Any]:
    """Let a consumer take what waits, and say no more."""
    entries: list[Any] = run(site.plain._core.cache.read(consumer, 100))
    return entries


def run(work: Any) -> Any:
    return drive(work)
