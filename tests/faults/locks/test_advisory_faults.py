"""Advisory locks on a real PostgreSQL: sessions that end, stall or stand behind a pooler, and processes that do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
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
from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.testing.proxy import FaultProxy
from backstay.url import parse

ROOT = Path(__file__).parents[3]


def until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[FaultProxy]:
    parsed = parse(postgres_url)
    with FaultProxy(parsed.host, parsed.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def direct(postgres_url: str) -> Iterator[Locks]:
    with Locks.connect(f"advisory+{postgres_url}", namespace="faults") as locks:
        yield locks


@pytest.fixture
def locks(proxy: FaultProxy, postgres_url: str) -> Iterator[Locks]:
    url = f"advisory+{proxy.url(postgres_url)}"
    with Locks.connect(url, namespace="faults", answer_within=0.5) as locks:
        with locks.mutex("warm"):
            pass
        yield locks


def terminate(url: str) -> None:
    """End the other sessions of this database, as an operator or a failover does."""
    engine = create_engine(url)
    with engine.connect() as admin:
        admin.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE datname = current_database() AND pid <> pg_backend_pid()"))  # fmt: skip
    engine.dispose()


def test_E4_a_connection_that_drops_is_a_loss_that_is_told_at_once(locks: Locks, postgres_url: str) -> None:
    lease = locks.mutex("a", ttl=30.0).acquire()
    told = threading.Event()
    lease.lost.call(told.set)
    start = time.monotonic()
    terminate(postgres_url)
    assert told.wait(5.0)
    assert time.monotonic() - start < 3.0, "not at the next renewal, which is 10 s away"
    with pytest.raises(LockLost) as lost:
        lease.release()
    assert lost.value.reason == "session"
    with locks.mutex("a", wait=2.0) as later:  # a session of its own, and a fence that goes on (N6)
        assert later.fence > lease.fence


def test_E4_asyncio_is_told_in_its_loop(postgres_url: str) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(f"advisory+{postgres_url}", namespace="faults") as locks:
            lease = await locks.mutex("a", ttl=30.0).acquire()
            loop = asyncio.get_running_loop()
            heard: list[bool] = []
            lease.lost.call(lambda: heard.append(asyncio.get_running_loop() is loop))
            await asyncio.to_thread(terminate, postgres_url)
            assert await lease.lost.wait(5.0)
            await asyncio.sleep(0.05)
            assert heard == [True]
            async with locks.mutex("a", wait=2.0) as later:
                assert later.fence > lease.fence

    asyncio.run(main())


def test_N3_a_server_that_falls_silent_is_found_out_before_the_lease_is_over(
    locks: Locks, direct: Locks, proxy: FaultProxy
) -> None:
    lease = locks.mutex("b", ttl=3.0).acquire()
    proxy.half_open()
    assert lease.lost.wait(5.0)
    assert not lease.is_valid()
    assert monotonic() < lease.deadline + 0.5
    with pytest.raises(NotAcquired):
        direct.mutex("b", wait=0.0).acquire()  # the server has not heard of it yet
    proxy.heal()  # what was sent meanwhile arrives, with the end of the connection
    with direct.mutex("b", wait=10.0) as later:
        assert later.fence > lease.fence


def test_C8_a_caller_in_a_hurry_does_not_end_the_session_of_the_others(locks: Locks, proxy: FaultProxy) -> None:
    with locks.mutex("c", ttl=30.0) as lease:
        proxy.delay(replies=0.2)
        start = time.monotonic()
        with pytest.raises((OutcomeUnknown, Unavailable)):
            locks.mutex("d", wait=0.05).acquire()
        assert time.monotonic() - start < 0.2
        proxy.heal()
        lease.check()
        until(lambda: _free(locks, "d"))  # what was won meanwhile is given back
        lease.check()


def _free(locks: Locks, name: str) -> bool:
    try:
        with locks.mutex(name, wait=0.0):
            return True
    except NotAcquired:
        return False


def test_a_lost_reply_ends_the_session_and_with_it_whatever_was_won(
    locks: Locks, direct: Locks, proxy: FaultProxy
) -> None:
    held = locks.mutex("e", ttl=30.0).acquire()
    proxy.drop_replies(matching=b"pg_try_advisory_lock", times=1, cut=True)
    with locks.mutex("f", wait=5.0) as lease:  # asked again, in another session
        assert not held.is_valid()
        with pytest.raises(LockLost):
            held.release()
        with direct.mutex("e", wait=5.0), pytest.raises(NotAcquired):
            direct.mutex("f", wait=0.0).acquire()
        lease.check()


CHILD = """
    import sys, time
    from backstay.locks import Locks, LockLost
    locks = Locks.connect("advisory+" + sys.argv[1], namespace="faults")
    lease = locks.mutex("x", ttl=1.5, wait=30).acquire()
    print(lease.fence, flush=True)
    time.sleep(0.3)
    while lease.is_valid():
        time.sleep(0.005)
    print("lost", flush=True)
    time.sleep(60)
"""


def _child(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_holder_costs_nothing_and_a_stopped_one_keeps_its_lock(direct: Locks, postgres_url: str) -> None:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        process = _child(postgres_url)
        assert process.stdout is not None
        try:
            fence = int(process.stdout.readline())
            os.kill(process.pid, number)
            if number is signal.SIGSTOP:
                with pytest.raises(NotAcquired):
                    direct.mutex("x", wait=2.5).acquire()  # its kernel answers for it: safe, and not live
                os.kill(process.pid, signal.SIGCONT)
                assert process.stdout.readline().strip() == "lost", "it has to find out by its own clock"
            start = time.monotonic()
            with direct.mutex("x", wait=5.0) as lease:
                assert lease.fence > fence
                assert time.monotonic() - start < 3.0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_O5_a_forked_child_leaves_the_parents_session_alone(direct: Locks) -> None:
    lease = direct.mutex("x", ttl=30.0).acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if not lease.is_valid():
                try:
                    direct.mutex("x", wait=0.0).acquire()
                except NotAcquired:
                    with direct.mutex("y", wait=2.0):
                        code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    lease.extend(30.0)  # the session goes on
    lease.release()


class Pooler:
    """A stand-in for a connection pooler, where no test of ours can start a real one.

    It does what gives PgBouncer away (seen on 1.18): the key that a client may cancel with is the pooler's own, so the
    pid in it is not that of the server's process. Two statements of one client often reach the same server process
    behind a real pooler too, so that their pids agree proves nothing.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for source, target, change in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(source, target, change), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, change: bool) -> None:
        with source, target:
            try:
                while chunk := source.recv(65536):
                    at = chunk.find(b"K" + struct.pack("!i", 12)) if change else -1
                    if at >= 0:  # BackendKeyData: length 12, pid, secret
                        chunk = chunk[: at + 5] + struct.pack("!i", 1171198754) + chunk[at + 9 :]
                    target.sendall(chunk)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


def test_E4_a_pooler_is_refused_and_row_leases_are_named_as_the_cure(postgres_url: str) -> None:
    parsed = parse(postgres_url)
    pooler = Pooler(parsed.host, parsed.port or 5432)
    through = postgres_url.replace(f":{parsed.port}/", f":{pooler.port}/")
    with Locks.connect(f"advisory+{through}", namespace="faults") as locks:
        with pytest.raises(Misuse, match=r"pooler between.*row leases"):
            locks.mutex("x", wait=0.0).acquire()
    with Locks.connect(through, namespace="faults") as rows, rows.mutex("x", wait=0.0) as lease:
        lease.check()
    pooler.close()


def test_E4_a_server_process_that_changes_later_ends_the_session(direct: Locks) -> None:
    backend: Any = direct._protocol.backend
    lease = direct.mutex("x", ttl=30.0).acquire()
    backend._session._pid += 1  # as if the next statement had reached another one
    with pytest.raises(LockLost):
        lease.extend(30.0)
    assert not backend._session.open
