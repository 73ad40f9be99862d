"""Masters of a quorum that die, freeze and come back: a minority costs nothing, a majority is missed for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from backstay.errors import OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, Locks
from backstay.locks.backends.quorum.fan import Line
from servers.server import Server

Starts = Callable[[], Server]


def _url(masters: list[Server], options: str = "") -> str:
    return "redis+quorum://" + ",".join(f"{each.host}:{each.port}" for each in masters) + "/0" + options


def _taken_in(locks: Locks, name: str) -> float:
    start = time.monotonic()
    with locks.mutex(name, ttl=10.0, wait=0.0):
        return time.monotonic() - start


def test_K1_one_dead_of_three_costs_nothing_two_are_unavailable_and_they_come_back(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]
    with Locks.connect(_url(masters), namespace="faults") as locks:
        held = locks.mutex("held", ttl=3.0).acquire()
        fence = held.fence
        masters[0].kill()
        assert _taken_in(locks, "one dead") < 1.0
        time.sleep(3.5)  # the lease lives on renewals by the other two
        held.check()
        held.release()
        masters[1].kill()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            _taken_in(locks, "two dead")
        masters[0].start()
        masters[1].start()
        with locks.mutex("held", ttl=10.0, wait=10.0) as later:
            assert later.fence > fence


def test_K1_one_frozen_of_three_costs_one_slice_and_then_nothing(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]
    with Locks.connect(_url(masters), namespace="faults") as locks:
        _taken_in(locks, "warm")
        masters[1].pause()
        try:
            times = [_taken_in(locks, f"frozen {number}") for number in range(100)]
        finally:
            masters[1].unpause()
        assert max(times) < 1.0, "a frozen master must not be waited for"
        assert sorted(times)[len(times) // 2] < 0.1, "it is listened to last, and left out after that"
        time.sleep(1.2)
        backs = [_taken_in(locks, f"back {number}") for number in range(20)]
        assert max(backs) < 1.0
        masters[0].pause()  # now the one that was frozen is needed
        try:
            assert _taken_in(locks, "needed") < 2.0
        finally:
            masters[0].unpause()


def test_K1_two_frozen_of_three_end_in_time_and_leave_nothing(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]

    async def main() -> None:
        locks = AsyncLocks.connect(_url(masters), namespace="faults")
        async with locks.mutex("warm", ttl=10.0):
            pass
        masters[0].pause()
        masters[1].pause()
        try:
            start = time.monotonic()
            with pytest.raises((Unavailable, OutcomeUnknown)):
                await locks.mutex("frozen", ttl=2.0, wait=1.0).acquire()
            assert time.monotonic() - start < 3.0
        finally:
            masters[0].unpause()
            masters[1].unpause()
        async with locks.mutex("frozen", ttl=2.0, wait=10.0) as lease:
            lease.check()
        await locks.close()

    asyncio.run(main())


def test_K4_a_master_that_restarted_and_may_have_lost_grants_has_no_vote_for_max_ttl(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]
    for master in masters:
        with contextlib.closing(redis.Redis.from_url(master.url)) as client:
            client.config_set("appendfsync", "everysec")
    # All three run for a few seconds only: none may vote with a max_ttl of a minute, as it cannot say what it forgot.
    with (
        Locks.connect(_url(masters, "?max_ttl=60"), namespace="faults") as strict,
        pytest.raises(Unavailable, match="may have lost locks as it restarted"),
    ):
        _taken_in(strict, "early")
    with Locks.connect(_url(masters, "?max_ttl=2"), namespace="faults") as locks:
        deadline = time.monotonic() + 10.0
        with locks.mutex("later", ttl=2.0, wait=10.0) as lease:
            lease.check()
        assert time.monotonic() < deadline


def test_R9_a_master_whose_scripts_were_flushed_still_votes(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]
    with Locks.connect(_url(masters), namespace="faults") as locks:
        _taken_in(locks, "before")
        for master in masters:
            with contextlib.closing(redis.Redis.from_url(master.url)) as client:
                client.script_flush()
        assert _taken_in(locks, "after") < 1.0


def test_K2_a_connection_that_was_closed_while_idle_is_mended_in_the_same_call(own_redis: Starts) -> None:
    masters = [own_redis() for _ in range(3)]
    with Locks.connect(_url(masters), namespace="faults") as locks:
        _taken_in(locks, "before")
        for master in masters:
            with contextlib.closing(redis.Redis.from_url(master.url)) as client:
                client.client_kill_filter(_type="normal", skipme=True)
        assert _taken_in(locks, "after") < 1.0


def test_an_answer_that_was_not_needed_is_read_before_the_next(own_redis: Starts) -> None:
    server = own_redis()
    untyped: Any = redis.Connection
    connection = untyped(host=server.host, port=server.port)
    connection.connect()
    line = Line(connection)
    for number in range(3):
        line.send(connection.pack_command("ECHO", f"answer {number}"), 1.0)
    assert line.owed == 3
    assert line.receive() == b"answer 2"
    assert line.owed == 0
    line.slow = True
    line.send(connection.pack_command("ECHO", "late"), 2.0)
    deadline = time.monotonic() + 5.0
    while line.owed and time.monotonic() < deadline:
        line.catch_up()
    assert not line.slow
    line.close()
