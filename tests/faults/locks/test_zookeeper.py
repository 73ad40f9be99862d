"""Sessions that expire, servers that die or lead no more, links that go silent, under locks on a real ZooKeeper."""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kazoo.client import KazooClient

from backstay.clock import monotonic
from backstay.errors import NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.backends.zookeeper import ZooKeeperBackend
from backstay.testing.proxy import FaultProxy
from servers.sets import Ensemble, mode, until as settled

ROOT = Path(__file__).parents[3]
HOME = "/backstay/zk/locks/lock"


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "waited in vain"
        time.sleep(0.01)


def backend(locks: Locks) -> ZooKeeperBackend:
    found = locks._protocol.backend
    assert isinstance(found, ZooKeeperBackend)
    return found


def expire(found: ZooKeeperBackend, url: str) -> None:
    """End a session at the servers: whoever has its number and password may close it."""
    client = KazooClient(urlsplit(url).netloc, client_id=found._session.client.client_id)
    client.start()
    client.stop()
    client.close()


@pytest.fixture
def proxy(zookeeper_url: str) -> Iterator[FaultProxy]:
    place = urlsplit(zookeeper_url)
    assert place.hostname and place.port
    with FaultProxy(place.hostname, place.port) as proxy:
        yield proxy


@pytest.fixture
def direct(zookeeper_url: str) -> Iterator[Locks]:
    with Locks.connect(f"{zookeeper_url}?session=10", namespace="zk") as locks:
        yield locks


@pytest.fixture
def operator(zookeeper_url: str) -> Iterator[Any]:
    client = KazooClient(zookeeper_url.removeprefix("zookeeper://"), timeout=10.0)
    client.start()
    yield client
    client.stop()
    client.close()


# -- the session


def test_Z7_Z8_an_expired_session_is_told_at_once_off_the_clients_threads(zookeeper_url: str, direct: Locks) -> None:
    lease = direct.mutex("z7").acquire()
    where: list[str] = []
    told = threading.Event()

    def listener() -> None:
        where.append(repr(threading.current_thread()))
        with direct.mutex("from the listener", wait=5.0):  # on the client's event thread this would never end
            told.set()

    lease.lost.call(listener)
    start = monotonic()
    expire(backend(direct), zookeeper_url)
    assert lease.lost.wait(2.0)
    assert monotonic() - start < 1.5, "told by the session's end, not by a deadline"
    with pytest.raises(LockLost) as lost:
        lease.check()
    assert lost.value.reason in ("session", "doubted")
    assert told.wait(5.0)
    assert "zk_loop" not in where[0] and "_thread_worker" not in where[0]
    with direct.mutex("z7", wait=5.0) as again:  # N6: the same object, in a new session
        assert again.fence > lease.fence


def test_Z7_an_expired_session_is_told_in_asyncio(zookeeper_url: str) -> None:
    async def work() -> None:
        async with AsyncLocks.connect(f"{zookeeper_url}?session=8", namespace="zk") as locks:
            lease = await locks.mutex("z7").acquire()
            found = locks._protocol().backend
            assert isinstance(found, ZooKeeperBackend)
            start = monotonic()
            await asyncio.to_thread(expire, found, zookeeper_url)
            assert await lease.lost.wait(3.0)
            assert monotonic() - start < 3.0
            async with locks.mutex("z7", wait=5.0) as again:
                assert again.fence > lease.fence

    asyncio.run(work())


def test_Z5_a_waiter_whose_session_expired_joins_anew_and_never_resumes(
    zookeeper_url: str, direct: Locks, operator: Any
) -> None:
    with Locks.connect(f"{zookeeper_url}?session=10", namespace="zk") as waiters, ThreadPoolExecutor(1) as pool:
        with direct.mutex("z5") as lease:
            waiting = pool.submit(lambda: waiters.mutex("z5", wait=30.0).acquire())
            until(lambda: len(operator.get_children(f"{HOME}/z5")) == 2)
            first = set(operator.get_children(f"{HOME}/z5"))
            expire(backend(waiters), zookeeper_url)
            until(lambda: len(set(operator.get_children(f"{HOME}/z5")) - first) == 1)
            assert not waiting.done()
            lease.check()
        later = waiting.result(10.0)
        assert later.is_valid()
        later.release()
    assert operator.get_children(f"{HOME}/z5") == []


def test_C5_Z6_a_cut_off_holder_is_told_before_another_is_granted(
    zookeeper_url: str, proxy: FaultProxy, direct: Locks
) -> None:
    with Locks.connect(proxy.url(f"{zookeeper_url}?session=1.5"), namespace="zk") as locks:
        lease = locks.mutex("c5").acquire()
        lost_at: list[float] = []
        lease.lost.call(lambda: lost_at.append(monotonic()))
        proxy.half_open()  # nobody tells this client anything; kazoo will not before it is connected again
        with direct.mutex("c5", wait=20.0) as later:
            granted_at = monotonic()
            assert not lease.is_valid()
            assert later.fence > lease.fence
        until(lambda: lost_at, 1.0)
        assert lost_at[0] < granted_at
        proxy.heal()
        with locks.mutex("c5", wait=10.0) as back:
            assert back.fence > later.fence


def test_Z6_Z7_a_connection_that_broke_is_doubted_and_verified_before_it_counts_again(
    zookeeper_url: str, proxy: FaultProxy, direct: Locks
) -> None:
    with Locks.connect(proxy.url(f"{zookeeper_url}?session=8"), namespace="zk") as locks:
        lease, other = locks.mutex("stays").acquire(), locks.mutex("goes").acquire()
        proxy.refuse()
        proxy.cut()
        until(lambda: not lease.is_valid(), 2.0)
        assert not lease.lost.is_set(), "in doubt, not lost"
        with pytest.raises(LockLost, match="in doubt") as doubt:
            lease.check()
        assert doubt.value.reason == "doubted"
        with pytest.raises(NotAcquired):
            direct.mutex("stays", wait=0.0).acquire()
        node = backend(locks)._places[other.token].path
        backend(direct)._session.client.delete_async(node).wait(5.0)
        proxy.heal()
        until(lease.is_valid, 6.0)  # the same session: verified, good again
        assert other.lost.wait(5.0), "verified as well: its node was gone"
        lease.release()


# -- answers that are lost


def test_Z1_Z4_a_create_whose_answer_was_lost_is_found_by_its_token(
    zookeeper_url: str, proxy: FaultProxy, operator: Any
) -> None:
    with Locks.connect(proxy.url(f"{zookeeper_url}?session=10"), namespace="zk") as locks:
        for name in ("z1", "z4"):
            with locks.mutex(name):
                pass
        proxy.drop_replies(matching=b"/lock/z1", times=1)  # the create and the listing are two chunks; both have it
        with locks.mutex("z1", wait=10.0) as lease:
            (node,) = operator.get_children(f"{HOME}/z1")  # one node: it was found again, not made twice
            assert operator.exists(f"{HOME}/z1/{node}").czxid == lease.fence
        assert operator.get_children(f"{HOME}/z1") == []

        proxy.drop_replies(matching=b"/lock/z4", times=1)
        with pytest.raises(OutcomeUnknown):
            locks.mutex("z4", wait=0.0).acquire()
        until(lambda: operator.exists(f"{HOME}/z4") is None or operator.get_children(f"{HOME}/z4") == [])


def test_R4_R6_a_release_whose_answer_was_lost_can_be_repeated(
    zookeeper_url: str, proxy: FaultProxy, operator: Any
) -> None:
    with Locks.connect(proxy.url(f"{zookeeper_url}?session=10"), namespace="zk") as locks:
        lease = locks.mutex("r4").acquire()
        proxy.drop_replies(matching=b"-lock-", times=1)
        with pytest.raises(OutcomeUnknown):
            lease.release()
        lease.release()  # an earlier copy freed it: that is no loss
        with locks.mutex("r4", wait=0.0):
            pass
        with locks.mutex("r4", wait=10.0):
            proxy.drop_replies(matching=b"-lock-", times=1)
        until(lambda: operator.exists(f"{HOME}/r4") is None or operator.get_children(f"{HOME}/r4") == [])


# -- the holder's process


def test_a_stopped_holder_wakes_up_to_find_its_lease_over(zookeeper_url: str, direct: Locks) -> None:
    body = """
        import sys, time
        from backstay.locks import LockLost, Locks
        locks = Locks.connect(sys.argv[1], namespace="zk")
        lease = locks.mutex("stopped").acquire()
        print(lease.fence, flush=True)
        time.sleep(0.3)
        while lease.is_valid():
            time.sleep(0.005)
        try:
            lease.release()
        except LockLost as lost:
            print("lost", lost.fence, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body), f"{zookeeper_url}?session=1.5"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            fence = int(holder.stdout.readline())
            os.kill(holder.pid, signal.SIGSTOP)
            with direct.mutex("stopped", wait=20.0) as lease:
                assert lease.fence > fence, "the resource can tell the late write of the stopped holder"
                os.kill(holder.pid, signal.SIGCONT)
                assert holder.stdout.readline().strip() == f"lost {fence}"
                lease.check()
        finally:
            holder.kill()


def test_a_killed_holder_costs_its_session(zookeeper_url: str, direct: Locks) -> None:
    body = """
        import sys, time
        from backstay.locks import Locks
        lease = Locks.connect(sys.argv[1], namespace="zk").mutex("killed").acquire()
        print(lease.fence, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body), f"{zookeeper_url}?session=1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        fence = int(holder.stdout.readline())
        holder.kill()
        start = monotonic()
        with direct.mutex("killed", wait=20.0) as lease:
            assert lease.fence > fence
            assert monotonic() - start < 1.0 + 1.0 + 1.0, "the session, a tick, and some patience"


# -- the ensemble


def two_followers(ensemble: Ensemble) -> list[Any] | None:
    roles = {id(member): mode(member) for member in ensemble.members}
    found = [member for member in ensemble.members if roles[id(member)] == "follower"]
    return found if sorted(filter(None, roles.values())) == ["follower", "follower", "leader"] else None


def test_the_leader_dies_the_quorum_goes_and_comes_back_and_one_holder_stays(own_ensemble: Ensemble) -> None:
    ensemble = own_ensemble
    with Locks.connect(f"{ensemble.url}?session=12", namespace="zk") as locks:
        with Locks.connect(f"{ensemble.url}?session=12", namespace="zk") as others:
            lease = locks.mutex("leader").acquire()
            waiting = ThreadPoolExecutor(1)
            later = waiting.submit(lambda: others.mutex("leader", wait=60.0).acquire())
            until(lambda: backend(others).letters == 1)

            leader = ensemble.leader()
            leader.kill()
            ensemble.leader()
            until(lease.is_valid, 10.0)
            assert not later.done()
            leader.start()
            followers = settled(lambda: two_followers(ensemble), "one leader and two who follow")
            for follower in followers:
                follower.kill()
            until(lambda: not lease.is_valid(), 20.0)
            with pytest.raises((Unavailable, OutcomeUnknown, NotAcquired)):
                others.mutex("leader", wait=0.5).acquire()
            assert not later.done(), "without a quorum nobody is granted anything"
            for follower in followers:
                follower.start()
            ensemble.leader()
            # The silence may have cost the lease, or not: in either case there is one holder, and then the next.
            until(lambda: lease.is_valid() or lease.lost.is_set(), 20.0)
            if lease.is_valid():
                assert not later.done()
                lease.release()
            next_one = later.result(30.0)
            assert next_one.is_valid() and not lease.is_valid()
            assert next_one.fence > lease.fence
            next_one.release()
            waiting.shutdown()
            with others.mutex("leader", wait=5.0) as last:  # nothing is left behind that blocks (Z4)
                assert last.fence > next_one.fence


def test_a_server_that_lost_the_leader_cannot_vouch_for_a_session(own_ensemble: Ensemble) -> None:
    """Such a server answers reads from its memory for two seconds more, while the others may have moved on."""
    leader = own_ensemble.leader()
    follower, third = (member for member in own_ensemble.members if member is not leader)
    with Locks.connect(f"zookeeper://127.0.0.1:{follower.port}?session=1.2", namespace="zk") as locks:
        lease = locks.mutex("minority").acquire()
        time.sleep(1.0)
        lease.check()
        path = backend(locks)._places[lease.token].path
        reads = KazooClient(f"127.0.0.1:{follower.port}", timeout=20.0)
        reads.start()
        third.pause()
        leader.pause()
        start = monotonic()
        assert lease.lost.wait(3.0)
        took = monotonic() - start
        assert took <= lease.ttl + 0.1, "no renewal counted from the time without a leader"
        assert reads.exists(path) is not None, "a plain read would still have said yes"
        leader.unpause()
        third.unpause()
        reads.stop()
        reads.close()
