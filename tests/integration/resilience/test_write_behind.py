"""The contract of write-behind on Redis with PostgreSQL and with MariaDB, and what only servers show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
