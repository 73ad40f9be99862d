"""Replicas of one database: what one writes the other pushes; epochs above an older database; what runs out."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backstay.errors import BulkheadFull, Misuse
from backstay.resilience.delivery.envelope import Envelope
from backstay.resilience.switch_service import board as boards
from backstay.resilience.switch_service.expiry import expired, next_end
from backstay.resilience.switch_service.watch import Watch
from unit.resilience.switch_service.desk import CONFIG, SCOPE, Desk


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Desk, Desk]]:
    one, two = Desk(tmp_path), Desk(tmp_path)
    two.tokens = one.tokens
    with TestClient(one.app) as first, TestClient(two.app) as second:
        one.client, two.client = first, second
        yield one, two
    one.store.close()
    two.store.close()


def look(desk: Desk) -> bool:
    """Have the replica look at the database, as its task does every 0.2 s."""
    watch: Watch = desk.app.state.service.watch
    portal = desk.client.portal
    assert portal is not None
    return bool(portal.call(watch.look))


def end_what_is_over(desk: Desk) -> None:
    portal = desk.client.portal
    assert portal is not None
    portal.call(desk.app.state.service.watch.end_what_is_over)


def test_SW10_a_replica_notices_what_another_wrote(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    etag = one.change(0, a=True).headers["etag"]
    assert look(two)
    assert not look(two)
    assert two.ask("GET", CONFIG, headers={"If-None-Match": etag}).status_code == 304
    assert two.change(1, a=False).json()["version"] == 2
    assert one.ask("GET", CONFIG).json()["version"] == 1  # it has not looked yet
    assert one.change(1, a=True).status_code == 409  # and is told so before it does harm
    assert look(one)
    assert one.ask("GET", CONFIG).json()["version"] == 2


def test_a_change_made_for_what_another_replica_wrote_is_accepted_at_once(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    one.change(0, a=True)
    assert two.change(1, b=True).json()["version"] == 2
    assert sorted(two.ask("GET", CONFIG).json()["items"]["switches"]) == ["a", "b"]


def test_a_token_ended_at_one_replica_ends_at_the_other(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    assert two.ask("GET", "/v1/scopes").status_code == 200
    assert one.ask("DELETE", f"/v1/tokens/{one.tokens['operator'].split('_')[1]}", "admin").status_code == 204
    look(two)
    assert two.ask("GET", "/v1/scopes").status_code == 401


def test_SW12_an_empty_database_begins_a_higher_epoch(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    cursors: list[tuple[int, int]] = []
    for folder in ("old", "new"):
        desk = Desk(tmp_path / folder)
        desk.now_ms += 5000 * len(cursors)
        with TestClient(desk.app) as desk.client:
            for version in range(3 - len(cursors)):
                desk.change(version, a=version % 2 == 0)
            found = desk.ask("GET", CONFIG).json()
        cursors.append((found["epoch"], found["version"]))
        desk.store.close()
    assert cursors[1] > cursors[0]
    assert cursors[1][1] < cursors[0][1]


@pytest.mark.parametrize("teller", ["heartbeat", "etag", "memory"])
def test_SW12_an_older_database_is_noticed_and_begins_a_higher_epoch(tmp_path: Path, teller: str) -> None:
    desk = Desk(tmp_path)
    with TestClient(desk.app) as desk.client:
        desk.change(0, a=True)
        with sqlite3.connect(tmp_path / "switches.db") as source, sqlite3.connect(tmp_path / "copy.db") as copy:
            source.backup(copy)
        source.close()
        copy.close()
        etag = desk.change(1, a=False).headers["etag"]
        seen = desk.ask("GET", CONFIG).json()
    if teller != "memory":
        desk.store.close()
        for left in tmp_path.glob("switches.db*"):
            left.unlink()
        shutil.copy(tmp_path / "copy.db", tmp_path / "switches.db")
        tokens, desk = desk.tokens, Desk(tmp_path)
        desk.tokens = tokens
    desk.now_ms += 60_000
    with TestClient(desk.app) as desk.client:
        if teller == "memory":  # put back under a service that runs
            with sqlite3.connect(tmp_path / "copy.db") as source, sqlite3.connect(tmp_path / "switches.db") as target:
                source.backup(target)
            source.close()
            target.close()
            look(desk)
            look(desk)
        elif teller == "heartbeat":
            beat = {"scope": SCOPE, "instance": "web-1", "state": "ready", "epoch": seen["epoch"], "version": 2}
            assert desk.ask("POST", "/v1/instances", "reader", json=beat).json()["epoch"] > seen["epoch"]
        else:
            assert desk.ask("GET", CONFIG, headers={"If-None-Match": etag}).status_code == 200
        found = desk.ask("GET", CONFIG).json()
        assert (found["epoch"], found["version"]) > (seen["epoch"], seen["version"])
        assert found["items"]["switches"]["a"]["enabled"] is True  # what the older database holds
        assert desk.change(found["version"], a=False).status_code == 200
        latest = desk.ask("GET", f"{CONFIG}/versions").json()["versions"][1]
        assert (latest["action"], latest["who"]) == ("epoch", "service")
    desk.store.close()


def test_nobody_can_push_the_epoch_out_of_reach(desk: Desk) -> None:
    desk.change(0, a=True)
    before = desk.ask("GET", CONFIG).json()["epoch"]
    beat = {"scope": SCOPE, "instance": "web-1", "state": "ready", "epoch": (1 << 53) - 1, "version": 9}
    assert desk.ask("POST", "/v1/instances", "reader", json=beat).json()["epoch"] == before
    beat["epoch"] = before  # a version far ahead of its own epoch only begins another epoch
    epochs = {before}
    for _ in range(10):
        found = desk.ask("POST", "/v1/instances", "reader", json=beat).json()
        epochs.add(found["epoch"])
        beat["epoch"], beat["version"] = found["epoch"], found["version"] + 1
    assert len(epochs) == 5  # five tries an hour, the first was spent above: a reader cannot fill the disk
    assert desk.ask("GET", CONFIG).json()["items"]["switches"]["a"]["enabled"] is True


def test_a_database_that_is_emptied_under_a_service_begins_anew(desk: Desk, tmp_path: Path) -> None:
    desk.change(0, a=True)
    desk.change(1, a=False)
    before = desk.ask("GET", CONFIG).json()["epoch"]
    with sqlite3.connect(tmp_path / "switches.db") as connection:
        connection.execute("DELETE FROM backstay_switch_scope")
        connection.execute("DELETE FROM backstay_switch_version")
        connection.execute("UPDATE backstay_switch_state SET changes = 0")
    connection.close()
    look(desk)
    assert desk.ask("GET", CONFIG).status_code == 404
    desk.now_ms += 1000
    assert desk.change(0, a=True).json()["version"] == 1
    assert desk.ask("GET", CONFIG).json()["epoch"] > before


def test_SW8_what_was_to_last_until_a_moment_ends_by_an_audited_version(desk: Desk) -> None:
    desk.change(0, a=True, b=True)
    change = {"section": "switches", "name": "a", "value": False}
    body = {"base": 1, "reason": "stock is slow", "until": "2026-11-24T02:30:00Z", "changes": [change]}
    made = desk.ask("PATCH", CONFIG, json=body).json()
    assert made["changes"][0]["new"] == {"enabled": False, "reason": "stock is slow", "until": "2026-11-24T02:30:00Z"}
    desk.now_ms += 1_799_999
    end_what_is_over(desk)
    assert desk.ask("GET", CONFIG).json()["version"] == 2
    desk.now_ms += 1
    end_what_is_over(desk)
    found = desk.ask("GET", CONFIG).json()
    assert found["version"] == 3
    ended = {"enabled": False, "reason": "ran out; was: stock is slow", "until": "2026-11-24T02:30:00Z"}
    assert found["items"]["switches"]["a"] == ended  # readers take it for left out
    assert desk.ask("PATCH", CONFIG, json={**body, "base": 3}).status_code == 422  # that moment has passed
    latest = desk.ask("GET", f"{CONFIG}/versions").json()["versions"][0]
    assert (latest["action"], latest["who"], latest["why"]) == ("expiry", "service", "ran out: a")
    end_what_is_over(desk)
    assert desk.ask("GET", CONFIG).json()["version"] == 3


def test_SW8_of_two_replicas_one_writes_what_ran_out(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    change = {"section": "switches", "name": "a", "value": False}
    one.ask("PATCH", CONFIG, json={"base": 0, "reason": "x", "until": "2026-11-24T02:01:00Z", "changes": [change]})
    look(two)
    for desk in pair:
        desk.now_ms += 60_000
        end_what_is_over(desk)
    versions = two.ask("GET", f"{CONFIG}/versions").json()["versions"]
    assert [each["action"] for each in versions] == ["expiry", "change"]


def test_SW8_an_expiry_that_cannot_be_written_says_why_once_a_minute(desk: Desk, monkeypatch: Any) -> None:
    change = {"section": "switches", "name": "a", "value": False}
    desk.ask("PATCH", CONFIG, json={"base": 0, "reason": "x", "until": "2026-11-24T02:01:00Z", "changes": [change]})

    def refuse(items: object) -> None:
        raise Misuse("a newer reader understands less")

    monkeypatch.setattr(desk.app.state.service.validation, "check", refuse)
    desk.now_ms += 60_000
    end_what_is_over(desk)
    end_what_is_over(desk)
    told = [entry for entry in desk.audit() if entry["action"] == "expiry"]
    assert [(entry["outcome"], "understands less" in entry["why"]) for entry in told] == [("refused", True)]
    desk.now_ms += 60_000
    end_what_is_over(desk)
    assert len([entry for entry in desk.audit() if entry["action"] == "expiry"]) == 2
    assert desk.ask("GET", CONFIG).json()["version"] == 1


def test_pins_of_levels_run_out_and_forces_do_not() -> None:
    items: dict[str, dict[str, Any]] = {
        "levels": {
            "db": {"pin": {"level": "severe", "until": "2026-11-24T02:00:00Z"}, "thresholds": {"error": 0.3}},
            "web": {"pin": {"level": "error", "until": "2026-11-24T03:00:00Z"}},
            "cache": {"force": "severe"},
        },
        "switches": {"odd": {"enabled": True, "until": "whenever"}},
    }
    now = 1_795_485_600_000

    def sealed(items: dict[str, dict[str, Any]], issued_at: str) -> Envelope:
        return Envelope.seal(scope=SCOPE, epoch=1, version=1, items=items, issued_at=issued_at)

    document = sealed(items, "2026-11-24T01:00:00Z")
    assert next_end(document) == now
    left, over = expired(document, now)
    assert over == ["db"]
    assert left["levels"]["db"] == {"thresholds": {"error": 0.3}}
    assert left["levels"]["web"] == items["levels"]["web"]
    assert next_end(sealed(left, "2026-11-24T02:00:00Z")) == now + 3_600_000
    assert next_end(sealed(items, "2026-11-24T02:00:00Z")) == now + 3_600_000  # it had ended when that was issued
    assert next_end(sealed({"levels": {"cache": {"force": "severe"}}}, "2026-11-24T02:00:00Z")) is None


def test_heartbeats_say_which_instance_runs_what_and_levels_become_a_time_line(desk: Desk) -> None:
    desk.change(0, a=True)
    beat: dict[str, Any] = {
        "scope": SCOPE, "instance": "web-1", "epoch": desk.now_ms, "version": 1, "state": "READY", "delay_s": 0.04,
        "applied_at": "2026-11-24T02:00:00Z", "levels": {"db": "normal", "web": "warning"},
        "signals": {"web": {"cause": "error rate 7 %", "rate": 0.07}},
    }  # fmt: skip
    assert desk.ask("POST", "/v1/instances", "reader", json=beat).json()["next_s"] == 10
    desk.now_ms += 10_000
    desk.ask("POST", "/v1/instances", "reader", json=beat)
    desk.now_ms += 10_000
    desk.ask("POST", "/v1/instances", "reader", json={**beat, "levels": {"db": "severe", "web": "warning"}})
    desk.now_ms += 2_000
    (found,) = desk.ask("GET", f"/v1/instances/{SCOPE}", "reader").json()["instances"]
    assert (found["instance"], found["version"], found["state"], found["delay_s"]) == ("web-1", 1, "ready", 0.04)
    assert found["seen_s"] == 2.0
    line = desk.ask("GET", f"/v1/levels/{SCOPE}", "reader").json()["levels"]
    assert [(each["resource"], each["level"]) for each in line] == [("web", "warning"), ("db", "severe")]
    assert (line[0]["cause"], line[0]["sample"]["rate"]) == ("error rate 7 %", 0.07)
    later = desk.ask("GET", f"/v1/levels/{SCOPE}?since=2026-11-24T02:00:20Z", "reader").json()["levels"]
    assert [each["resource"] for each in later] == ["db"]
    desk.now_ms += 3_600_000
    assert desk.ask("GET", f"/v1/instances/{SCOPE}", "reader").json()["instances"] == []


def test_a_heartbeat_for_another_scope_is_refused(desk: Desk) -> None:
    desk.change(0, a=True)
    beat = {"scope": SCOPE, "instance": "web-1", "state": "ready"}
    assert desk.ask("POST", "/v1/instances", "stranger", json=beat).status_code == 403
    assert desk.ask("POST", "/v1/instances", "admin", json={**beat, "scope": "no/where"}).status_code == 404


def test_SW12_a_listener_that_takes_nothing_is_cut_and_comes_back_to_the_present(desk: Desk) -> None:
    envelopes = []
    for version in range(20):
        desk.change(version, a=version % 2 == 0)
        found = desk.store.documents.current(SCOPE)
        assert found is not None
        envelopes.append(found)

    async def main() -> None:
        board = boards.Board()
        with board.listening(SCOPE) as slow, board.listening(SCOPE) as quick:
            for envelope in envelopes:
                assert board.post(envelope)
                news = await quick.next(1)
                assert news is not None
                assert news.cursor == envelope.cursor
            assert slow.cut
            assert not quick.cut
            assert await slow.next(1) is None
        present = board[SCOPE]
        assert present is not None
        assert present.cursor[1] == 20
        assert not board.post(envelopes[3])  # an older one never takes its place
        assert board._listeners == {}

    asyncio.run(main())


def test_there_is_a_bound_to_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "MOST_LISTENERS", 1)
    board = boards.Board()
    with board.listening(SCOPE), pytest.raises(BulkheadFull), board.listening(SCOPE):
        pytest.fail("there is room for one only")
    with board.listening(SCOPE) as again:
        board.close()
        assert again.cut
