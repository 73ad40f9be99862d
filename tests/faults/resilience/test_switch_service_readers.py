"""Planes that read a real switch service: pushed changes, kill -9, a frozen service, an empty and an older database."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from backstay.resilience.delivery.envelope import Cursor
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.sources.http import HttpSource
from integration.resilience.switch_replicas import SCOPE, Operator, Replica

QUICK = Pace(pull_interval=1.0, grace=5.0, first_retry=0.05, longest_retry=0.3)


class Seen:
    """A consumer that keeps what was applied last, and when."""

    section = "switches"

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}
        self.at = 0.0
        self.count = 0

    def prepare(self, section: Mapping[str, Any]) -> _Change:
        return _Change(self, dict(section))


class _Change:
    def __init__(self, seen: Seen, wanted: dict[str, Any]) -> None:
        self._seen, self._wanted, self._before = seen, wanted, seen.now

    def apply(self) -> None:
        self._seen.now, self._seen.at = self._wanted, time.monotonic()
        self._seen.count += 1

    def undo(self) -> None:
        self._seen.now = self._before


class Site:
    """A service and a reader of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "switches.db"
        self.replica = Replica(f"sqlite:///{self.database}")
        self.token = self.replica.token
        self.operator: Operator = self.replica.operator()
        self.operator.change(0, a=True)
        self.seen = Seen()
        source = HttpSource(
            f"http://127.0.0.1:{self.replica.port}/{SCOPE}", token=self.token, heartbeat=5.0, timeout=1.0
        )
        self.plane = Plane(source, pace=QUICK, keep=folder / "kept.json").attach(self.seen)
        self.plane.start()
        until(lambda: self.seen.count > 0)

    def restart(self) -> Replica:
        old = self.replica
        self.replica = Replica(old.store, port=old.port)
        old.close()
        self.operator = self.replica.operator(self.replica.token or self.token)
        return self.replica

    def close(self) -> None:
        self.plane.close()
        self.replica.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def state(site: Site) -> Any:
    found = site.seen.now.get("a")
    return found["enabled"] if isinstance(found, dict) else found


def test_SW4_a_change_reaches_a_reader_by_push_long_before_its_next_pull(site: Site) -> None:
    until(lambda: site.plane.status().connected)
    time.sleep(0.5)  # it listens by now
    delays: list[float] = []
    for version in range(1, 11):
        wanted = version % 2 == 0
        began = time.monotonic()
        assert site.operator.change(version, a=wanted).status_code == 200
        until(lambda wanted=wanted: state(site) is wanted)  # type: ignore[misc]  # bound in the loop, called in it
        delays.append(site.seen.at - began)
    assert statistics.median(delays) < 0.5
    assert max(delays) < 2.0


def test_SW12_kill_9_and_a_restart_lose_nothing_and_readers_come_back(site: Site) -> None:
    site.operator.change(1, a=False)
    until(lambda: state(site) is False)
    site.replica.kill()
    assert state(site) is False
    site.restart()
    site.operator.change(2, a=True)
    until(lambda: state(site) is True)
    assert site.plane.current is not None
    assert site.plane.current.version == 3


def test_SW12_a_frozen_service_is_noticed_and_readers_keep_what_they_have(site: Site) -> None:
    os.kill(site.replica.process.pid, signal.SIGSTOP)
    try:
        until(lambda: site.plane.status().state in ("stale", "error"))
        assert state(site) is True
    finally:
        os.kill(site.replica.process.pid, signal.SIGCONT)
    site.operator.change(1, a=False)
    until(lambda: state(site) is False)


def test_SW12_a_service_with_an_empty_database_is_followed_from_its_first_change_on(site: Site) -> None:
    for version in range(1, 4):
        site.operator.change(version, a=version % 2 == 0)
    until(lambda: site.plane.status().version == 4)
    site.replica.kill()
    for left in site.folder.glob("switches.db*"):
        left.unlink()
    site.token = ""
    site.restart()
    before = site.seen.now
    # The reader's token went with the database; it keeps what it has until it is given another one.
    until(lambda: site.plane.status().state in ("stale", "error"))
    assert site.seen.now == before
    site.operator.change(0, a=True)
    source = HttpSource(f"http://127.0.0.1:{site.replica.port}/{SCOPE}", token=site.replica.token, timeout=1.0)
    follower = Plane(source, pace=QUICK, keep=site.folder / "kept.json")
    follower.attach(site.seen)
    site.plane.close()
    site.plane = follower
    follower.start()
    until(lambda: state(site) is True and follower.status().version == 1)


def test_SW12_a_service_with_an_older_database_is_followed_under_a_higher_epoch(site: Site) -> None:
    copy = site.folder / "copy.db"
    with sqlite3.connect(site.database) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    site.operator.change(1, a=False)
    until(lambda: state(site) is False)
    before: Cursor = site.plane.current.cursor  # type: ignore[union-attr]  # it has applied one
    site.replica.kill()
    for left in site.folder.glob("switches.db*"):
        left.unlink()
    shutil.copy(copy, site.database)
    site.restart()
    # Nobody tells it: what the reader has seen, by the ETag that it asks with, shows that the database is older.
    until(lambda: state(site) is True)
    assert site.plane.current is not None
    assert site.plane.current.epoch > before.epoch
    history = site.operator.client.get(f"/v1/config/{SCOPE}/versions").json()["versions"]
    assert history[0]["action"] == "epoch"


def test_instances_report_which_version_they_run_and_how_long_it_took(site: Site) -> None:
    def reported() -> dict[str, Any]:
        found = site.operator.client.get(f"/v1/instances/{SCOPE}").json()["instances"]
        return found[0] if found else {}

    until(lambda: reported().get("version") == 1)
    site.operator.change(1, a=False)
    until(lambda: reported().get("version") == 2, 5.0)  # soon, not ten seconds later
    found = reported()
    assert (found["state"], str(os.getpid()) in found["instance"]) == ("ready", True)
    assert 0.0 <= found["delay_s"] < 2.0
