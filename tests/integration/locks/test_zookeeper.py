"""Locks on a real ZooKeeper: what its nodes, sessions and other clients make of them."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, UnimplementedError

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.errors import Misuse, NotAcquired, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.backends.zookeeper import ZooKeeperBackend, contending
from backstay.locks.backends.zookeeper.session import SHARE
from backstay.locks.claims import Resource
from servers.server import free_port

HOME = "/backstay/zk/locks"


@pytest.fixture
def locks(zookeeper_url: str) -> Iterator[Locks]:
    with Locks.connect(zookeeper_url, namespace="zk") as locks:
        yield locks


@pytest.fixture
def operator(zookeeper_url: str) -> Iterator[Any]:
    """Somebody with a client of their own in the same chroot."""
    client = KazooClient(zookeeper_url.removeprefix("zookeeper://"), timeout=10.0)
    client.start()
    yield client
    client.stop()
    client.close()


def backend(locks: Locks) -> ZooKeeperBackend:
    found = locks._protocol.backend
    assert isinstance(found, ZooKeeperBackend)
    return found


def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "waited in vain"
        time.sleep(0.01)


# -- fences and nodes


def test_F4_the_fence_is_the_czxid_of_the_holders_node_and_outlives_the_path(locks: Locks, operator: Any) -> None:
    fences: list[int] = []
    for _ in range(3):
        with locks.mutex("f4") as lease:
            (node,) = operator.get_children(f"{HOME}/lock/f4")
            stat = operator.exists(f"{HOME}/lock/f4/{node}")
            assert lease.fence == stat.czxid
            assert stat.ephemeralOwner != 0
            assert node.startswith(lease.token)
            fences.append(lease.fence)
        operator.delete("/backstay", recursive=True)  # the numbers of nodes begin anew, fences must not (F2)
    assert fences == sorted(set(fences))


def test_C9_Z4_whoever_does_not_get_it_leaves_no_node_and_no_watch(locks: Locks, operator: Any) -> None:
    with locks.mutex("z4"):
        for wait in (0.0, 0.05, 0.05):
            with pytest.raises(NotAcquired):
                locks.mutex("z4", wait=wait).acquire()
            assert len(operator.get_children(f"{HOME}/lock/z4")) == 1
        assert backend(locks).letters == 0
        assert backend(locks)._letters.watched == 0
    assert operator.get_children(f"{HOME}/lock/z4") == []
    assert backend(locks)._places == {}


def test_C9_O7_cancelled_at_any_moment_nothing_is_left(zookeeper_url: str, operator: Any) -> None:
    async def work() -> None:
        async with AsyncLocks.connect(zookeeper_url, namespace="zk") as locks:
            async with locks.mutex("warm"):
                pass
            for step in range(40):
                task = asyncio.create_task(locks.mutex("o7", wait=5.0).acquire())
                await asyncio.sleep(step * 0.0002)
                task.cancel()
                try:
                    lease = await task
                except asyncio.CancelledError:
                    continue
                await lease.release()
            found = locks._protocol().backend
            assert isinstance(found, ZooKeeperBackend)
            assert (found._places, found.letters) == ({}, 0)

    asyncio.run(work())
    # the emptied container may have gone as well by now
    assert not operator.exists(f"{HOME}/lock/o7") or operator.get_children(f"{HOME}/lock/o7") == []


def test_Z9_an_emptied_resource_goes_and_a_lock_comes_back_into_it(locks: Locks, operator: Any) -> None:
    with locks.mutex("z9"):
        pass
    until(lambda: operator.exists(f"{HOME}/lock/z9") is None)  # a container: the server deletes it
    with locks.mutex("z9") as lease:
        assert lease.is_valid()


def test_Z9_where_the_server_has_no_containers_the_last_to_leave_deletes_it(
    locks: Locks, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(client: Any, path: str) -> Any:  # a server before 3.5, of which there is no image here
        answer = client.handler.async_result()
        answer.set_exception(UnimplementedError())
        return answer

    monkeypatch.setattr(contending, "create_container", refused)
    with locks.mutex("old"):
        assert operator.exists(f"{HOME}/lock/old") is not None
    assert operator.exists(f"{HOME}/lock/old") is None


def test_Z9_many_who_come_and_go_while_the_path_is_deleted_under_them(locks: Locks, operator: Any) -> None:
    inside: list[int] = []

    def worker(_: int) -> None:
        for _ in range(10):
            with locks.mutex("race", wait=20.0) as lease:
                inside.append(lease.fence)
                assert len(inside) == 1
                inside.clear()

    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            try:
                operator.delete(f"{HOME}/lock/race")  # refused while somebody is in it
            except KazooException:
                done.wait(0.001)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    done.set()
    sweeper.join()


# -- the operator


def test_Z11_a_holder_whose_node_was_deleted_is_told_and_the_next_gets_it(zookeeper_url: str, operator: Any) -> None:
    with Locks.connect(f"{zookeeper_url}?session=2", namespace="zk") as locks:
        lease = locks.mutex("z11").acquire()
        operator.delete("/backstay", recursive=True)
        assert lease.lost.wait(2.0), "the next renewal sees it"
        with pytest.raises(LockLost, match="freed at the server"):
            lease.check()
        with locks.mutex("z11", wait=0.0) as later:
            assert later.fence > lease.fence


def test_Z5_Z11_a_waiter_whose_node_was_deleted_joins_anew(locks: Locks, operator: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        with locks.mutex("z5") as lease:
            waiting = pool.submit(lambda: locks.mutex("z5", wait=20.0).acquire())
            until(lambda: len(operator.get_children(f"{HOME}/lock/z5")) == 2)
            (second,) = [
                node for node in operator.get_children(f"{HOME}/lock/z5") if not node.startswith(f"{lease.token}-")
            ]
            operator.delete(f"{HOME}/lock/z5/{second}")
        waiting.result(10.0).release()


def test_Z12_we_stand_in_one_line_with_curator_and_kazoo(locks: Locks, operator: Any) -> None:
    """Nodes as Curator names them, made by hand: Curator itself is not here. kazoo's own lock is."""
    operator.ensure_path(f"{HOME}/lock/shared")
    theirs = operator.create(
        f"{HOME}/lock/shared/_c_5f2a0c1e-8a9b-4f2e-9c57-1a2b3c4d5e6f-lock-", ephemeral=True, sequence=True
    )
    with pytest.raises(NotAcquired, match="_c_5f2a0c1e"):
        locks.mutex("shared", wait=0.0).acquire()
    operator.delete(theirs)
    peer = operator.Lock(f"{HOME}/lock/shared", "kazoo", extra_lock_patterns=["-lock-"])
    with locks.mutex("shared"):
        assert not peer.acquire(blocking=False)
    assert peer.acquire(blocking=False)
    with pytest.raises(NotAcquired):
        locks.mutex("shared", wait=0.0).acquire()
    peer.release()
    with locks.mutex("shared", wait=0.0):
        pass


def test_Z10_inspection_tells_who_holds_and_who_waits_in_order(locks: Locks) -> None:
    here = backend(locks)
    resource = Resource("z10", "read-write lock")
    pair = locks.read_write("z10", wait=20.0)
    with ThreadPoolExecutor(3) as pool:
        one = pool.submit(lambda: pair.read().acquire()).result(5.0)
        two = pool.submit(lambda: pair.read().acquire()).result(5.0)
        writing = pool.submit(lambda: pair.write().acquire())
        until(lambda: drive(here.inspect(resource, 5.0)).waiters)
        survey = drive(here.inspect(resource, 5.0))
        held = [(each.token, each.fence, each.left) for each in survey.holders]
        assert held == [(one.token, one.fence, None), (two.token, two.fence, None)]
        assert all(0.0 <= each.age < 60.0 for each in survey.holders)
        assert len(survey.waiters) == 1
        assert drive(here.resources(10, 5.0)) == [resource]
        one.release()
        two.release()
        writing.result(10.0).release()
    assert drive(here.inspect(resource, 5.0)).holders == []
    assert drive(here.resources(10, 5.0)) == []


# -- no herd


def test_W6_Z3_fifty_waiters_one_watch_each_and_one_is_woken_by_a_release(
    zookeeper_url: str, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    dispatch = operator.handler.dispatch_callback

    def counting(callback: Any) -> None:
        events.append(callback)
        dispatch(callback)

    monkeypatch.setattr(operator.handler, "dispatch_callback", counting)
    looks = 0

    async def work() -> list[int]:
        order: list[int] = []
        async with AsyncLocks.connect(operator, namespace="zk") as locks:
            here = locks._protocol().backend
            assert isinstance(here, ZooKeeperBackend)
            take = here.take

            async def counted(*args: Any) -> Any:
                nonlocal looks
                looks += 1
                return await take(*args)

            here.take = counted  # type: ignore[method-assign,assignment]

            async def waiter(number: int) -> None:
                async with locks.mutex("herd", wait=60.0):
                    order.append(number)

            async with locks.mutex("herd"):
                tasks = []
                for number in range(50):
                    tasks.append(asyncio.create_task(waiter(number)))
                    await asyncio.sleep(0)
                while here._letters.watched < 50:
                    await asyncio.sleep(0.01)
                assert looks == 51 and not events
            await asyncio.gather(*tasks)
        return order

    start = monotonic()
    order = asyncio.run(work())
    assert order == list(range(50)), "first come, first served (Q5)"
    assert len(events) == 50, "one event a release"
    assert looks <= 101 + 50 * int((monotonic() - start) / 1.6), "one look a release, and the beat of 2 s"


# -- sessions


def test_Z6_what_is_promised_is_less_than_what_the_servers_keep_of_what_was_asked(zookeeper_url: str) -> None:
    for asked, kept in ((0.5, 1.0), (8.0, 8.0), (100.0, 60.0)):  # the test's servers keep 1 to 60 s
        with Locks.connect(f"{zookeeper_url}?session={asked}", namespace="zk") as locks:
            start = monotonic()
            with locks.mutex("z6", ttl=200.0) as lease:
                assert lease.ttl == pytest.approx(SHARE * kept)
                assert lease.deadline <= monotonic() + SHARE * kept * 0.99
                assert lease.deadline >= start + SHARE * kept * 0.98
        client = KazooClient(zookeeper_url.removeprefix("zookeeper://"), timeout=asked)
        client.start()  # before it is handed over, so nobody saw what was negotiated
        with Locks.connect(client, namespace="zk") as locks, locks.mutex("z6", ttl=200.0) as lease:
            assert lease.ttl == pytest.approx(SHARE * kept)
        client.stop()
        client.close()


def test_a_client_that_was_not_started_is_started_and_not_stopped(zookeeper_url: str) -> None:
    client = KazooClient(zookeeper_url.removeprefix("zookeeper://"))
    with Locks.connect(client, namespace="zk") as locks:
        with locks.mutex("fresh"):
            assert client.connected
    assert client.connected
    assert not client.state_listeners, "ours is taken off (S6)"
    client.stop()
    client.close()


def test_O9_stopping_the_users_client_under_a_held_lock_is_a_loss_not_a_hang(zookeeper_url: str) -> None:
    client = KazooClient(zookeeper_url.removeprefix("zookeeper://"))
    locks = Locks.connect(client, namespace="zk")
    lease = locks.mutex("o9").acquire()
    start = monotonic()
    client.stop()
    assert lease.lost.wait(2.0)
    with pytest.raises(LockLost, match="session"):
        lease.release()
    with pytest.raises(Unavailable, match="client was stopped"):
        locks.mutex("o9", wait=0.0).acquire()
    locks.close()
    assert monotonic() - start < 5.0
    client.close()


def test_dropped_without_close_the_threads_and_the_session_end(zookeeper_url: str, operator: Any) -> None:
    def clients() -> int:
        return sum("zk_loop" in repr(getattr(thread, "_target", "")) for thread in threading.enumerate())

    before = clients()
    locks = Locks.connect(f"{zookeeper_url}?session=2", namespace="zk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        lease = locks.mutex("dropped").acquire()
        assert clients() == before + 1
        del lease, locks
        until(lambda: gc.collect() >= 0 and clients() == before)  # the keeper gives the lease back first
    until(lambda: not operator.exists(f"{HOME}/lock/dropped") or not operator.get_children(f"{HOME}/lock/dropped"))


def test_C8_where_nobody_listens_it_ends_in_time(free_port_url: str) -> None:
    locks = Locks.connect(free_port_url, namespace="zk", answer_within=0.4)
    for wait in (0.0, 0.3):
        start = monotonic()
        with pytest.raises(Unavailable, match="was not reached"):
            locks.mutex("c8", wait=wait).acquire()
        assert monotonic() - start < 1.5
    start = monotonic()
    locks.close()
    assert monotonic() - start < 3.0


@pytest.fixture
def free_port_url() -> str:
    return f"zookeeper://127.0.0.1:{free_port()}"


def test_credentials_keep_others_out(zookeeper_url: str) -> None:
    place = zookeeper_url.removeprefix("zookeeper://")
    with Locks.connect(f"zookeeper://shop:secret@{place}/private", namespace="zk") as ours:
        with ours.mutex("mine"):
            pass
        for url in (f"zookeeper://{place}/private", f"zookeeper://shop:guess@{place}/private"):
            with Locks.connect(url, namespace="zk") as theirs:
                with pytest.raises(Misuse, match="refused the credentials") as refused:
                    theirs.mutex("mine", wait=0.0).acquire()
                assert "guess" not in str(refused.value)
        with ours.mutex("mine", wait=0.0):
            pass
        backend(ours)._session.client.delete("/" + place.partition("/")[2] + "/private", recursive=True)  # type: ignore[attr-defined]


# -- forks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside threads is what is tested
def test_O5_a_forked_child_neither_holds_nor_frees_nor_ends_the_session(zookeeper_url: str, operator: Any) -> None:
    url = f"{zookeeper_url}?session=2"
    locks = Locks.connect(url, namespace="zk")
    lease = locks.mutex("o5").acquire()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            assert not lease.is_valid()
            with pytest.raises(LockLost, match="parent process"):
                lease.release()
            with pytest.raises(NotAcquired):
                locks.mutex("o5", wait=0.0).acquire()
            with locks.mutex("other") as another:
                assert another.is_valid()
            locks.close()
            said = "well"
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"well"
    os.waitpid(child, 0)
    time.sleep(2.5)  # longer than the session: it must still be the parent's
    assert lease.is_valid()
    assert len(operator.get_children(f"{HOME}/lock/o5")) == 1
    lease.release()
    locks.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_O5_a_handed_over_client_is_of_no_use_in_a_child_and_that_is_said(zookeeper_url: str) -> None:
    client = KazooClient(zookeeper_url.removeprefix("zookeeper://"))
    locks = Locks.connect(client, namespace="zk")
    with locks.mutex("parent"):
        pass
    child = os.fork()
    if child == 0:
        code = 1
        try:
            locks.mutex("child", wait=0.0).acquire()
        except Misuse as error:
            code = 0 if "belongs to the parent" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with locks.mutex("parent", wait=0.0):
        pass
    locks.close()
    client.stop()
    client.close()
