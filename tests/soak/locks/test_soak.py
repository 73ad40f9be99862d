"""All recipes on every store under random faults: the history is judged, the guarded resource watched.

`make test` runs some seconds of each; `make soak-locks` 10,000 operations of each recipe. SEED=... repeats the choices.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soak.locks.storm import Server, Storm, check_writes
from soak.locks.worker import RECIPES, Write

STORES = ("memory", "sqlite", "redis", "postgres", "mariadb", "zookeeper")
OPERATIONS = int(os.environ.get("OPERATIONS", "10000"))
SETTLE = {"memory": 3.0, "zookeeper": 15.0}


@pytest.fixture
def seed() -> int:
    given = os.environ.get("SEED", "")
    return int(given) if given else secrets.randbelow(2**32)


@pytest.fixture
def storm(redis_url: str, tmp_path: Path, seed: int) -> Iterator[Callable[..., Storm]]:
    storms: list[Storm] = []

    def start(url: str, server: Server | None = None) -> Storm:
        processes = 1 if url.startswith("memory") else 3
        storms.append(Storm(url, redis_url, tmp_path, seed, server=server, processes=processes))
        return storms[-1]

    yield start
    for each in storms:
        each.close()


def _url(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if store == "memory":
        return "memory://soak"
    if store == "sqlite":
        return f"sqlite:///{tmp_path}/locks.db"
    return str(request.getfixturevalue(f"{store}_url"))


def _report(store: str, storm: Storm, verdict: object) -> None:
    print(f"{store} SEED={storm.seed}: {verdict}; asked {storm.asked()}; faults {dict(Counter(storm.faults))}")


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgres", "mariadb", "zookeeper"])
def test_some_seconds_of_faults(
    store: str, storm: Callable[..., Storm], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = storm(_url(store, tmp_path, request))
    run.run(5.0)
    _report(store, run, run.judge(settle=2.0, calm=1.0))
    assert all(run.asked().values()), "a recipe was not tried"


def test_some_seconds_of_faults_on_a_redis_that_is_killed(storm: Callable[..., Storm], own_redis: Any) -> None:
    server = own_redis()
    run = storm(server.url, server)
    run.run(8.0)
    run.restart()
    _report("redis", run, run.judge(settle=2.0, calm=1.0))
    assert all(run.asked().values()), "a recipe was not tried"


@pytest.mark.soak
@pytest.mark.parametrize("store", STORES)
def test_10000_operations_of_each_recipe(
    store: str, storm: Callable[..., Storm], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = None if store in ("memory", "sqlite") else request.getfixturevalue(f"own_{store}")()
    run = storm(_url(store, tmp_path, request) if server is None else server.url, server)
    run.run(30.0, OPERATIONS)
    verdict = run.judge(settle=SETTLE.get(store, 8.0), calm=10.0)
    _report(store, run, verdict)
    assert min(run.asked().values()) >= OPERATIONS


def test_a_late_write_that_was_accepted_is_noticed() -> None:
    def write(fence: int, began: float, accepted: bool = True, client: str = "a") -> Write:
        return Write(
            resource="x", fence=fence, client=client, began=began, ended=began + 1.0, accepted=accepted
        )  # fmt: skip

    check_writes([write(1, 0.0), write(2, 2.0), write(1, 4.0, accepted=False), write(2, 6.0)])
    check_writes([write(2, 0.0), write(1, 0.5)])  # at the same time: nobody can tell which came first
    with pytest.raises(AssertionError, match="late"):
        check_writes([write(1, 0.0), write(2, 2.0), write(1, 4.0)])
    with pytest.raises(AssertionError, match="one fence"):
        check_writes([write(1, 0.0), write(1, 2.0, client="b")])
    assert set(RECIPES) == {"mutex", "reentrant", "read-write", "semaphore", "segmented"}
