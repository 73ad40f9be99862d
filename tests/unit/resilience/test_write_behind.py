"""What write-behind says of wrong settings, of its gauges, and on its command line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.resilience.write_behind import Balances, Insufficient, Settings, WriteBehind
from backstay.resilience.write_behind.cli import app
from backstay.testing.telemetry import measured
from unit.resilience.write_behinds import BALANCES, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{tmp_path}/cache.db", f"sqlite:///{tmp_path}/stock.db")
    yield made
    made.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"remember": 59},
        {"remember": float("inf")},
        {"most_pending": 0},
        {"replicas": -1},
        {"replicas": True},
        {"replicas": 1, "replicas_within": 2.0},
        {"patience": 0},
        {"eviction": "maybe"},
        {"carry": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        Settings(**wrong)


@pytest.mark.parametrize("cache", ["sqlite://", "sqlite:///:memory:", "mysql://user:secret@host/", "stock.db"])
def test_a_cache_that_is_none_is_refused_without_its_password(cache: str) -> None:
    with pytest.raises(Misuse) as told:
        WriteBehind.connect("stock", cache=cache, database="sqlite:///stock.db", balances=BALANCES)
    assert "secret" not in str(told.value)


def test_a_database_that_is_none_is_refused() -> None:
    with pytest.raises(Misuse, match="is no database"):
        WriteBehind.connect("stock", cache="memory://", database="nonsense", balances=BALANCES)


@pytest.mark.parametrize("wrong", [{"table": ""}, {"table": "a..b"}, {"key": 7}, {"balance": None}])
def test_columns_without_a_name_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        Balances(**{"table": "stock", "key": "sku", "balance": "on_hand", **wrong})


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"tries": True}, {"poll": 0}, {"claim_after": -1}, {"name": ""}])
def test_a_consumer_out_of_range_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    if wrong == {"name": ""}:
        assert site.plain.consumer(**wrong).name
        return
    with pytest.raises(Misuse):
        site.plain.consumer(**wrong)


def test_replicas_are_refused_where_there_are_none() -> None:
    with pytest.raises(Misuse, match="replicas"):
        WriteBehind.connect(
            "stock",
            cache="memory://",
            database="sqlite:///stock.db",
            balances=BALANCES,
            settings=Settings(replicas=1),
        )


def test_missing_tables_are_told(tmp_path: Path) -> None:
    subject = WriteBehind.connect(
        "stock", cache="memory://", database=f"sqlite:///{tmp_path}/empty.db", balances=BALANCES
    )
    with pytest.raises(Unavailable, match="no such table"):
        subject.deduct("o1", "apple", 1)
    subject.create_tables()
    with pytest.raises(Unavailable, match="no such table: stock"):
        subject.deduct("o1", "apple", 1)
    subject.close()


@pytest.mark.parametrize("balance", [-1, 10**15 + 1])
def test_a_balance_that_cannot_be_loaded_stops_the_entry(site: Site, balance: int) -> None:
    site.store("apple", balance)
    with pytest.raises(Misuse, match="'apple'"):
        site.plain.enter()
    site.store("apple", 1)
    site.plain.leave()
    assert site.plain.deduct("o1", "apple", 1).source == "database"


def test_WD1_too_many_that_wait_are_refused(tmp_path: Path) -> None:
    site = Site("memory://", f"sqlite:///{tmp_path}/stock.db", most_pending=2)
    site.plain.enter()
    for number in range(2):
        site.plain.deduct(f"o{number}", "apple", 1)
    with pytest.raises(Exception, match="2 operations wait"):
        site.plain.deduct("o2", "apple", 1)
    site.sync()
    assert site.plain.deduct("o2", "apple", 1).left == 7
    site.close()


def test_WD2_ids_of_pending_operations_do_not_age(tmp_path: Path) -> None:
    from backstay.resilience.write_behind.backends.local import LocalCache

    now = [1000.0]
    cache = LocalCache("stock", None, Settings(remember=60), clock=lambda: now[0])
    site = Site(cache, f"sqlite:///{tmp_path}/stock.db", remember=60)
    site.plain.enter()
    site.plain.deduct("o1", "apple", 1)
    now[0] += 1_000_000  # the database was away for eleven days
    assert site.plain.deduct("o1", "apple", 1).repeated
    site.sync()
    now[0] += 59
    assert site.plain.deduct("o1", "apple", 1).repeated
    now[0] += 2
    assert not site.plain.deduct("o1", "apple", 1).repeated
    # An id that came back too late is another operation: the database says so and nothing is guessed.
    site.sync()
    assert [entry.op for entry, _ in site.plain.parked()] == ["o1"]
    site.close()


def test_WD3_a_commit_without_an_answer_is_unknown_and_the_same_id_decides(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError

    engine: Any = site.plain._core.ledger.engine

    def lost(connection: Any) -> None:
        connection.connection.commit()  # it arrives, and its answer does not
        event.remove(engine, "commit", lost)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    event.listen(engine, "commit", lost)
    with pytest.raises(OutcomeUnknown) as told:
        site.plain.deduct("o1", "apple", 4)
    assert told.value.ask["operation"] == "o1"
    assert site.plain.deduct("o1", "apple", 4).repeated
    assert site.stored() == 6


def test_WD6_a_database_with_the_turn_needs_no_cache(tmp_path: Path) -> None:
    site = Site("redis://127.0.0.1:1", f"sqlite:///{tmp_path}/stock.db")
    assert site.plain.deduct("o1", "apple", 4).left == 6
    assert site.plain.balance("apple").balance == 6
    with pytest.raises(Unavailable):
        site.plain.enter()
    assert site.plain.deduct("o2", "apple", 1).left == 5
    site.close()


def test_WD5_a_new_process_reads_and_writes_in_the_cache_while_the_database_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plain.enter()
    site.plain.deduct("o1", "apple", 4)
    new = site.another()

    def away(*_: object) -> Any:
        raise Unavailable("the database is away")

    for name in ("balance", "change", "turn"):
        monkeypatch.setattr(new._core.ledger, name, away)
    assert new.deduct("o1", "apple", 4).repeated
    new._core._first = "database"
    assert new.balance("apple").balance == 6
    site.sync()
    site.plain.leave(timeout=0)
    for _ in range(2):  # the hint is stale: the cache says no, the database does not answer, and nothing is guessed
        with pytest.raises(Unavailable, match="away"):
            new.deduct("o2", "apple", 1)
        with pytest.raises(Unavailable, match="away"):
            new.balance("apple")


def test_keys_may_be_numbers(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(f"sqlite:///{tmp_path}/accounts.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, cents BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO account VALUES (7, 100)"))
    columns = Balances(table="account", key="id", balance="cents", kind=int)
    with WriteBehind.connect("credit", cache="memory://", database=engine, balances=columns) as subject:
        subject.create_tables()
        assert subject.deduct("o1", "7", 10).left == 90
        with pytest.raises(Misuse, match="cannot be made"):
            subject.deduct("o2", "seven", 10)
        subject.enter()
        assert subject.deduct("o3", "7", 10).left == 80
        assert subject.consumer().step() == 1
        subject.leave(timeout=0)
        assert subject.balance("7").balance == 80
    engine.dispose()


def test_WD7_lag_and_pending_are_gauges_that_ask_nobody(site: Site) -> None:
    with measured() as found:
        site.plain.enter()
        for op in ("o1", "o1", "o2"):
            site.plain.deduct(op, "apple", 1)
        with pytest.raises(Insufficient):
            site.plain.deduct("o3", "apple", 100)
        site.store("apple", 0)
        site.consumer.step()
        site.consumer._looks_at = 0  # a second later
        site.consumer.step()
        about = {"resource": "stock"}
        assert found.value("write_sync.pending", state="waiting", **about) == 2
        assert found.value("write_sync.pending", state="parked", **about) == 0
        assert found.value("write_sync.lag", **about) > 0
        assert found.count("write_sync.results", source="cache", result="done", **about) == 2
        assert found.count("write_sync.results", source="cache", result="repeated", **about) == 1
        assert found.count("write_sync.results", source="cache", result="refused", **about) == 1
        for _ in range(5):
            site.consumer._looks_at = 0
            site.consumer.step()
        assert found.value("write_sync.pending", state="parked", **about) == 2


def test_a_consumer_waits_while_the_database_is_away_and_counts_no_tries(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.plain.enter()
    site.plain.deduct("o1", "apple", 1)
    stop, asked = threading.Event(), []
    ledger: Any = site.plain._core.ledger
    apply = ledger.apply

    def away(entries: Any) -> Any:
        asked.append(1)
        if len(asked) < 8:
            raise Unavailable("the database is away")
        stop.set()
        return apply(entries)

    monkeypatch.setattr(ledger, "apply", away)
    with caplog.at_level(logging.WARNING):
        site.plain.consumer(name="first", poll=0.000001, tries=1).run(stop)
    assert len(asked) == 8
    assert "the database is away" in caplog.text
    assert site.plain.status().parked == 0
    assert site.stored() == 9


def call(site: Site, *words: str) -> Any:
    places = ["--cache", site.cache, "--database", site.database, "--balances", "stock:sku:on_hand"]
    return CliRunner().invoke(app, [*words, *places])


def test_operators_take_the_steps_of_the_turn(site: Site) -> None:
    assert call(site, "create-tables", "stock").exit_code == 0
    assert "the cache has turn 1" in call(site, "enter", "stock").output
    site.plain.deduct("o1", "apple", 1)
    assert "open, turn 1: 1 pending" in call(site, "status", "stock").output
    site.store("apple", 0)
    for _ in range(6):
        site.consumer.step()
    assert "apple\to1\t-1" in call(site, "parked", "stock").output
    assert "parked" in str(call(site, "leave", "stock", "--timeout", "0").exception)
    site.store("apple", 10)
    assert "1 operations of apple" in call(site, "retry", "stock", "apple").output
    site.sync()
    assert "the database has the turn" in call(site, "leave", "stock").output
    wrong = CliRunner().invoke(
        app, ["status", "stock", "--cache", site.cache, "--database", site.database, "--balances", "stock"]
    )
    assert isinstance(wrong.exception, Misuse)
