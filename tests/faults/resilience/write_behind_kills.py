"""Consumers that end by SIGKILL at one of five points between reading an entry and having acknowledged it.

A parent that has imported everything forks one child a round: a real process with connections of its own, which sends
SIGKILL to itself at the point. Nothing runs after that: no `finally`, no rollback, no goodbye to a server. The points
are put in from here, around the ledger, the engine and the cache; the library has none.

    python -m faults.resilience.write_behind_kills CACHE DATABASE

reads lines "POINT CONSUMER" and answers "killed" or "idle".
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from sqlalchemy import event

from backstay.resilience.write_behind import Balances, Insufficient, WriteBehind
from backstay.resilience.write_behind.backends import redis as _redis
from backstay.resilience.write_behind.consumer import Consumer as _Consumer
from unit.resilience.write_behinds import Site

POINTS = ("read", "noted", "changed", "committed", "acknowledged")
"""Behind which step the process ends: nothing written; id written; balance written; committed; acknowledged unheard."""
ROOT = Path(__file__).parents[3]
IMPORTED = (_redis, _Consumer)  # by the parent, once: a child that reads files could meet them half written


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def consume(cache: str, database: str, point: str, name: str) -> None:
    """Be a consumer until the point, or until there is nothing to do."""
    subject = WriteBehind.connect(
        "stock", cache=cache, database=database, balances=Balances(table="stock", key="sku", balance="on_hand")
    )
    ledger: Any = subject._core.ledger
    store: Any = subject._core.cache
    apply, ack = ledger.apply, store.ack

    def applied(entries: Any) -> Any:
        if point == "read":
            kill()
        return apply(entries)

    async def acknowledged(entries: Any) -> Any:
        if point == "committed":
            kill()
        await ack(entries)
        kill()

    def executed(*given: Any) -> None:
        if given[2].startswith("INSERT INTO backstay_write_behind_operation"):
            kill()

    def commits(connection: Any) -> None:
        if "noted" in connection.info:
            kill()

    def noted(*given: Any) -> None:
        if given[2].startswith("UPDATE stock"):
            given[0].info["noted"] = True

    ledger.apply, store.ack = applied, acknowledged
    if point == "noted":
        event.listen(ledger.engine, "after_cursor_execute", executed)
    if point == "changed":
        event.listen(ledger.engine, "after_cursor_execute", noted)
        event.listen(ledger.engine, "commit", commits)
    consumer = subject.consumer(name=name, batch=random.randint(1, 5), claim_after=0.005)
    for _ in range(20):
        consumer.step()


def main() -> None:
    cache, database = sys.argv[1:]
    print("ready", flush=True)
    for line in sys.stdin:
        point, name = line.split()
        child = os.fork()
        if child == 0:
            try:
                consume(cache, database, point, name)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "idle", flush=True)


class Parent:
    """The process that forks consumers."""

    def __init__(self, cache: str, database: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.resilience.write_behind_kills", cache, database],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/tests{os.pathsep}{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def round(self, point: str, name: str) -> bool:
        """Run one consumer; return whether it reached the point and ended there."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{point} {name}\n")
        self.process.stdin.flush()
        answer = self.answer()
        assert answer in ("killed", "idle")
        return answer == "killed"

    def __enter__(self) -> Parent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()  # the end of its input ends it


def rounds(site: Site, count: int, seed: int) -> dict[str, int]:
    """Kill `count` consumers at each point in turn while operations come in; return how often each point was met.

    Afterwards the rest is brought over, and database, cache and the callers' own sums must agree.
    """
    chance = random.Random(seed)
    site.store("apple", 1_000_000)
    site.store("pear", 50)
    site.plain.enter()
    expected = {"apple": 1_000_000, "pear": 50, "plum": 0}
    accepted: list[str] = []
    met = dict.fromkeys(POINTS, 0)
    with Parent(cast("str", site.cache), site.database) as parent:
        number = 0
        while sum(met.values()) < count:
            point = POINTS[sum(met.values()) % len(POINTS)]
            for _ in range(chance.randint(1, 4)):
                number += 1
                key, back = chance.choice(sorted(expected)), chance.random() < 0.3
                amount = chance.randint(1, 5)
                call = site.plain.give_back if back else site.plain.deduct
                try:
                    for _ in range(chance.randint(1, 2)):  # callers repeat as well
                        call(f"o{number}", key, amount)
                except Insufficient:
                    continue
                expected[key] += amount if back else -amount
                accepted.append(f"o{number}")
            met[point] += parent.round(point, f"worker-{chance.randint(1, 2)}")
    heir = site.plain.consumer(name="heir", claim_after=0.000001)
    while site.plain.status().pending:
        heir.step()
    site.plain.leave(timeout=5)  # compares every balance itself
    assert {key: site.stored(key) for key in expected} == expected
    assert all(site.plain.outcome(op) is not None for op in accepted)
    return met


if __name__ == "__main__":
    main()
