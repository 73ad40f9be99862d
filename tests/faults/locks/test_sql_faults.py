"""Rows of locks on real databases: lost replies, cuts, a silent, killed or stopped server, stopped processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from backstay.clock import monotonic
from backstay.errors import NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.claims import Resource
from backstay.testing.proxy import FaultProxy
from backstay.url import parse
from servers.server import Server

ROOT = Path(__file__).parents[3]
ANSWER = 0.5
WRITE = b"UPDATE backstay_locks"
NEW = b"INTO backstay_locks"


def until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database."""
    found: str = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "mariadb_url")
    return found


@pytest.fixture
def proxy(url: str) -> Iterator[FaultProxy]:
    parsed = parse(url)
    with FaultProxy(parsed.host, parsed.port or 0) as proxy:
        yield proxy


@pytest.fixture
def locks(proxy: FaultProxy, url: str) -> Iterator[Locks]:
    with Locks.connect(proxy.url(url), namespace="lost", answer_within=ANSWER) as locks:
        for name in "abcdefgh":
            with locks.mutex(name):  # the rows are there, and a connection
                pass
        yield locks


@pytest.fixture
def direct(url: str) -> Iterator[Locks]:
    with Locks.connect(url, namespace="lost") as direct:
        yield direct


def holders(direct: Locks, name: str) -> list[str]:
    backend: Any = direct._protocol.backend
    from backstay.blocking import drive

    return [each.token for each in drive(backend.inspect(Resource(name), 5.0)).holders]


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_R5_a_lost_reply_to_an_acquire_is_asked_again(
    locks: Locks, direct: Locks, proxy: FaultProxy, cut: bool
) -> None:
    proxy.drop_replies(matching=WRITE, times=1, cut=cut)
    with locks.mutex("a", ttl=10.0, wait=5.0) as lease:
        assert proxy.counts.lost_replies == 1
        assert holders(direct, "a") == [lease.token]
        lease.check()
    assert holders(direct, "a") == []


def test_C2_without_time_to_ask_again_it_is_unknown_and_withdrawn(
    locks: Locks, direct: Locks, proxy: FaultProxy
) -> None:
    proxy.drop_replies(matching=WRITE, times=1, cut=False)
    with pytest.raises(OutcomeUnknown) as unknown:
        locks.mutex("b", ttl=60.0, wait=0.0).acquire()
    assert unknown.value.ask["lock"] == "b"
    until(lambda: holders(direct, "b") == [], timeout=10.0)
    with direct.mutex("b", wait=0.0):
        pass


def test_a_read_without_an_answer_has_changed_nothing(locks: Locks, direct: Locks, proxy: FaultProxy) -> None:
    proxy.half_open()
    start = time.monotonic()
    with pytest.raises(Unavailable, match="nothing was changed"):
        locks.mutex("c", wait=0.0).acquire()
    assert time.monotonic() - start < ANSWER + 0.5
    proxy.heal()
    with direct.mutex("c", wait=5.0):
        pass


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_R4_R6_a_lost_reply_to_a_release_frees_once_and_loses_nothing(
    locks: Locks, direct: Locks, proxy: FaultProxy, cut: bool
) -> None:
    lease = locks.mutex("d", ttl=30.0).acquire()
    proxy.drop_replies(matching=WRITE, times=1, cut=cut)
    if cut:
        lease.release()
    else:
        with pytest.raises(OutcomeUnknown):
            lease.release()
        later = direct.mutex("d", ttl=30.0, wait=5.0).acquire()
        lease.release()
        assert holders(direct, "d") == [later.token], "the second copy freed somebody else's lock"
        later.release()
    assert holders(direct, "d") == []


def test_N3_C5_cut_off_the_holder_is_told_before_the_database_frees(
    locks: Locks, direct: Locks, proxy: FaultProxy
) -> None:
    lease = locks.mutex("e", ttl=1.5).acquire()
    proxy.half_open()
    told: list[float] = []
    lease.lost.call(lambda: told.append(monotonic()))
    later = direct.mutex("e", wait=10.0).acquire()
    granted = monotonic()
    until(lambda: told != [])
    assert told[0] < granted
    assert lease.deadline < granted
    assert later.fence > lease.fence
    proxy.heal()
    later.release()


def test_N2_a_lost_renewal_is_repeated_and_the_lease_outlives_it(locks: Locks, proxy: FaultProxy) -> None:
    with locks.mutex("f", ttl=3.0) as lease:
        proxy.drop_replies(matching=WRITE, times=1, cut=True)
        assert not lease.lost.wait(1.6)
        assert proxy.counts.lost_replies == 1
        assert not lease.lost.wait(2.2)
        lease.check()


def test_asyncio_lost_replies_and_cancellation(proxy: FaultProxy, url: str, direct: Locks) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(proxy.url(url), namespace="lost", answer_within=ANSWER) as locks:
            async with locks.mutex("g"):
                pass
            proxy.drop_replies(matching=WRITE, times=1, cut=True)
            async with locks.mutex("g", wait=5.0) as lease:
                assert await asyncio.to_thread(holders, direct, "g") == [lease.token]
            proxy.drop_replies(matching=WRITE, times=1, cut=False)
            with pytest.raises(OutcomeUnknown):
                await locks.mutex("g", ttl=60.0, wait=0.0).acquire()
            await asyncio.to_thread(until, lambda: holders(direct, "g") == [])
            proxy.delay(replies=0.1)
            task = asyncio.create_task(locks.mutex("g", ttl=60.0).acquire())
            await asyncio.to_thread(until, lambda: holders(direct, "g") != [])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.heal()
            await asyncio.to_thread(until, lambda: holders(direct, "g") == [])

    asyncio.run(main())


def test_a_killed_and_restarted_server_keeps_what_it_acknowledged(own_postgres: Callable[[], Server]) -> None:
    server = own_postgres()
    with Locks.connect(server.url, namespace="faults", answer_within=1.0) as locks:
        lease = locks.mutex("x", ttl=60.0).acquire()
        server.kill()
        with pytest.raises(Unavailable):
            locks.mutex("y", wait=0.0).acquire()
        server.start()
        lease.check()
        with pytest.raises(NotAcquired):
            locks.mutex("x", wait=0.5).acquire()
        lease.extend(60.0)
        lease.release()
        with locks.mutex("x", wait=5.0) as later:
            assert later.fence > lease.fence
        server.pause()  # SIGSTOP for all of it: connections stay open, nobody answers
        start = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            locks.mutex("x", wait=0.0).acquire()
        assert time.monotonic() - start < 2.0
        server.unpause()
        with locks.mutex("x", wait=10.0):
            pass


HOLD = """
    import sys, time
    from backstay.locks import Locks, LockLost
    locks = Locks.connect(sys.argv[1], namespace="faults")
    lease = locks.mutex("x", ttl=1.5, wait=30).acquire()
    print(lease.fence, flush=True)
    time.sleep(0.3)
    while lease.is_valid():
        time.sleep(0.005)
    print("lost", flush=True)
    try:
        lease.release()
    except LockLost:
        print("release refused", flush=True)
"""


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_C3_F1_two_processes_and_one_of_them_is_stopped(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/locks.db" if store == "sqlite" else request.getfixturevalue("postgres_url")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        fence = int(process.stdout.readline())
        with Locks.connect(url, namespace="faults") as locks:
            with pytest.raises(NotAcquired):
                locks.mutex("x", wait=1.8).acquire()  # it is renewed beyond its ttl
            os.kill(process.pid, signal.SIGSTOP)
            with locks.mutex("x", ttl=30.0, wait=10.0) as lease:
                assert lease.fence > fence, "the resource can tell the late write of the stopped holder"
                os.kill(process.pid, signal.SIGCONT)
                assert process.stdout.readline().strip() == "lost"
                assert process.stdout.readline().strip() == "release refused"
                lease.check()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def go_on(pid: int) -> None:
    """Let a child go on once it has stopped: a signal that comes before the stop would be lost."""
    os.waitpid(pid, os.WUNTRACED)
    os.kill(pid, signal.SIGCONT)


def test_a_client_that_stops_between_read_and_write_blocks_nobody(url: str, direct: Locks) -> None:
    """No statement leaves a row locked: the interpreter is stopped for good right after it has read the row."""
    body = """
        import os, signal, sys
        from backstay.locks import Locks
        from backstay.locks.backends.sql import rows
        locks = Locks.connect(sys.argv[1], namespace="lost")
        with locks.mutex("x"):
            pass
        unpack, stops = rows.unpack, iter((1, 2))
        def stop(*given):
            if next(stops, 0):
                print("stopped", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            return unpack(*given)
        rows.unpack = stop
        locks.mutex("x", wait=0).acquire()
        print("granted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body), url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "stopped"
        with direct.mutex("x", wait=1.0) as lease:
            go_on(process.pid)
            assert process.stdout.readline().strip() == "stopped", "its write was refused, so it reads again"
            go_on(process.pid)
            assert process.stdout.readline().strip() == "", "and it is refused"
            lease.check()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_operator_who_locks_the_row_costs_the_wait_and_no_more(url: str, direct: Locks) -> None:
    with direct.mutex("x"):
        pass
    engine = create_engine(url)
    with Locks.connect(url, namespace="lost", answer_within=0.4) as locks, engine.connect() as operator:
        operator.execute(text("SELECT * FROM backstay_locks FOR UPDATE"))
        start = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            locks.mutex("x", wait=0.0).acquire()
        assert time.monotonic() - start < 1.5
        operator.rollback()
        with locks.mutex("x", wait=10.0):
            pass
    engine.dispose()


def test_many_threads_and_a_flapping_network_never_hold_at_once(locks: Locks, direct: Locks, proxy: FaultProxy) -> None:
    inside: list[int] = []
    fences: list[int] = []
    wrong: list[str] = []
    end = time.monotonic() + 2.0

    def work(mine: Locks) -> None:
        while time.monotonic() < end:
            try:
                with mine.mutex("h", ttl=5.0, wait=2.0, raise_on_loss=False) as lease:
                    inside.append(lease.fence)
                    if len(inside) != 1:
                        wrong.append(f"two holders: {inside}")
                    fences.append(lease.fence)
                    time.sleep(0.002)
                    inside.remove(lease.fence)
            except (NotAcquired, Unavailable, OutcomeUnknown, LockLost):
                continue

    threads = [threading.Thread(target=work, args=(each,)) for each in (locks, locks, direct, direct)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        proxy.cut()
        time.sleep(0.15)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(fences) > 10
    assert fences == sorted(set(fences))
