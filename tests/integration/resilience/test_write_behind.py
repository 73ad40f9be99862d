"""The contract of write-behind on Redis with PostgreSQL and with MariaDB, and what only servers show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from unit.resilience.write_behinds import Contract, Site


@pytest.fixture(params=[("postgres", "sync"), ("mariadb", "async")], ids="-".join)
def site(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Site]:
    engine, colour = request.param
    made = Site(redis_url, request.getfixturevalue(f"{engine}_url"), colour)
    yield made
    made.close()


class TestWriteBehind(Contract):
    pass


def test_a_consumer_of_the_command_line_ends_at_sigterm(site: Site) -> None:
    site.plain.enter()
    site.plain.deduct("o1", "apple", 4)
    command = [sys.executable, "-c", "from backstay.cli import main; main()", "write-behind", "consume", "stock"]
    command += ["--cache", str(site.cache), "--database", site.database, "--balances", "stock:sku:on_hand"]
    process = subprocess.Popen(command, env=os.environ)
    try:
        while site.plain.status().pending:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert site.stored() == 6


@pytest.mark.timeout(90)
def test_WD4_consumers_that_overlap_apply_each_operation_once_and_in_order(site: Site) -> None:
    """Four consumers that take each other's entries at once, beside four callers: nothing parked, nothing doubled."""
    keys = ("apple", "pear", "plum")
    for key in keys:
        site.store(key, 10_000)
    site.plain.enter()
    stop = threading.Event()
    consumers = [
        threading.Thread(
            target=site.plain.consumer(name=f"c{number}", batch=7, claim_after=0.001, poll=0.001).run, args=(stop,)
        )
        for number in range(4)
    ]

    def call(worker: int) -> None:
        for number in range(100):
            site.plain.deduct(f"{worker}-{number}", keys[number % 3], 1)

    callers = [threading.Thread(target=call, args=(worker,)) for worker in range(4)]
    for thread in (*consumers, *callers):
        thread.start()
    for thread in callers:
        thread.join()
    site.plain.leave(timeout=60)
    stop.set()
    for thread in consumers:
        thread.join()
    assert sum(site.stored(key) for key in keys) == 30_000 - 400
    assert site.plain.parked() == []
