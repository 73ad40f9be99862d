"""A Cluster under holders and waiters: a slot moves, a node dies, and the nodes that live are not disturbed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.blocking import drive
from backstay.locks import Locks
from backstay.redis import blocking_exchange, of_url
from backstay.redis.slots import slot_of, topology
from backstay.url import parse
from faults.locks.workers import until, working

if TYPE_CHECKING:
    from servers.server import Server
    from servers.sets import Cluster

pytestmark = pytest.mark.timeout(180)

TTL = 1.2
"""Shorter than a failover, so that a grant which the new master has not heard of is over when it takes office."""


def key(name: str) -> str:
    return f"backstay:faults:{{{name}}}:owner"


def client(server: Server) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def node_id(server: Server) -> str:
    with client(server) as asked:
        answer: Any = asked.execute_command("CLUSTER", "MYID")
        return str(answer.decode())


def masters(cluster: Cluster) -> dict[int, Server]:
    """The master of each slot, as a node that serves tells it."""
    asked = next(node for node in cluster.nodes if node.is_running)
    url = parse(asked.url)
    settings = of_url(url).settings
    (reply,) = drive(blocking_exchange(settings, [("CLUSTER", "SLOTS")], 5.0))
    told = topology(reply, (settings.host, settings.port))
    by_port = {node.port: node for node in cluster.nodes}
    return {slot: by_port[port] for slot, (_, port) in told.masters.items()}


class Move:
    """The move of one slot, step by step, as `redis-cli --cluster reshard` does it."""

    def __init__(self, cluster: Cluster, name: str, *, whole: bool = False) -> None:
        moved = name if whole else key(name)
        self.slot = slot_of(moved)
        self.source = cluster.master_of(moved)
        self._masters = set(masters(cluster).values())
        self.target = next(each for each in self._masters if each is not self.source)

    def begin(self) -> None:
        source, target = node_id(self.source), node_id(self.target)
        with client(self.target) as there, client(self.source) as here:
            there.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", source)
            here.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", target)

    def carry(self) -> int:
        with client(self.source) as here:
            keys: Any = here.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 100)
            if keys:
                here.execute_command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)
            return len(keys)

    def end(self) -> None:
        owner = node_id(self.target)
        for server in (self.target, self.source, *(self._masters - {self.target, self.source})):
            with client(server) as each:
                each.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", owner)


def test_R9_a_slot_that_moves_under_holders_and_waiters(own_cluster: Cluster) -> None:
    with working(own_cluster.url, "x", ttl=3.0) as history:
        history.wait_for(3)
        for _ in range(3):
            move = Move(own_cluster, "x")
            move.begin()
            time.sleep(0.3)  # what has keys on both sides is refused meanwhile
            while move.carry():
                pass
            time.sleep(0.1)
            move.end()
            history.wait_for(10)


def test_R9_a_lease_and_a_waiter_live_through_the_move_of_their_slot(own_cluster: Cluster) -> None:
    got: list[float] = []

    def wait() -> None:
        with Locks.connect(own_cluster.url, namespace="faults") as others, others.mutex("x", wait=40.0):
            got.append(time.monotonic())

    with Locks.connect(own_cluster.url, namespace="faults") as locks:
        lease = locks.mutex("x", ttl=1.5).acquire()
        waiter = threading.Thread(target=wait)
        waiter.start()
        move = Move(own_cluster, "x")
        with client(move.source) as server:
            until(lambda: server.llen("backstay:faults:{x}:queue") == 1)
        move.begin()
        while move.carry():
            pass
        assert not lease.lost.wait(2.0), "renewed where its key is, although the slot is still on the move"
        move.end()
        assert not lease.lost.wait(2.0), "renewed at the slot's new node"
        assert not got
        released = time.monotonic()
        lease.release()
        waiter.join(30.0)
        assert got
        assert got[0] - released < 3.0, "at the latest, by looking again"
        with client(move.target) as server:
            assert [each for each in server.keys("*") if b":fence" not in each and b":gone:" not in each] == []


def test_R9_holders_and_waiters_go_on_when_a_node_is_lost(own_cluster: Cluster) -> None:
    before = own_cluster.master_of(key("x"))
    with working(own_cluster.url, "x", ttl=TTL) as history:
        history.wait_for(3)
        before.kill()
        until(lambda: own_cluster.master_of(key("x")) is not before)
        history.wait_for(3)
        before.start()
        history.wait_for(30)


def test_W3_N2_one_subscription_for_each_node_and_a_frozen_node_disturbs_no_other(own_cluster: Cluster) -> None:
    names: dict[int, list[str]] = {}
    serving = masters(own_cluster)
    for number in range(30):
        names.setdefault(serving[slot_of(key(str(number)))].port, []).append(str(number))
    assert len(names) == 3
    with Locks.connect(own_cluster.url, namespace="faults", answer_within=1.0) as locks:
        held = [locks.mutex(name, ttl=30.0).acquire() for some in names.values() for name in some[:3]]
        got: list[str] = []

        def wait(name: str) -> None:
            with locks.mutex(name, wait=30.0):
                got.append(name)

        waiters = [threading.Thread(target=wait, args=(lease.name,)) for lease in held for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        for some in names.values():
            with client(serving[slot_of(key(some[0]))]) as server:
                for name in some[:3]:
                    queue = f"backstay:faults:{{{name}}}:queue"
                    until(lambda server=server, queue=queue: bool(server.llen(queue) == 2))  # type: ignore[misc]
                assert len(server.pubsub_channels("backstay:faults:mail:*")) == 1
        released = time.monotonic()
        for lease in held:
            lease.release()
        for waiter in waiters:
            waiter.join(30.0)
        assert len(got) == 18
        assert time.monotonic() - released < 1.5, "they were told; looking again would take longer"

        leases = {
            # all nodes are asked at once, and a round lasts as long as the slowest: answer_within is below ttl/3
            port: [locks.mutex(name, ttl=4.0, raise_on_loss=False).acquire() for name in some]
            for port, some in names.items()
        }
        frozen = serving[slot_of(key("0"))]
        frozen.pause()
        try:
            time.sleep(8.0)
            for port, all_there in leases.items():
                if port != frozen.port:
                    assert all(lease.is_valid() for lease in all_there), "renewals at one node wait for no other"
        finally:
            frozen.unpause()
        for lease in (each for some_of_them in leases.values() for each in some_of_them):
            if lease.is_valid():
                lease.release()
