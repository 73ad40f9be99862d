"""Servers that work together survive the loss of one, and its return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
from kazoo.client import KazooClient
from redis.backoff import ConstantBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

if TYPE_CHECKING:
    from servers.server import Server
    from servers.sets import Cluster, Ensemble, Sentinels

pytestmark = pytest.mark.timeout(240)


def other_than(before: Server, now: Server) -> Server | None:
    return None if now is before else now


def test_sentinel_makes_a_replica_the_master_when_the_master_is_killed(own_sentinels: Sentinels) -> None:
    from servers.sets import SENTINEL_SERVICE, until

    addresses = [(server.host, server.port) for server in own_sentinels.sentinels]
    sentinel: Any = cast(Any, Sentinel)(addresses, socket_timeout=2)  # redis-py has no types for it
    before = own_sentinels.master()
    assert sentinel.discover_master(SENTINEL_SERVICE) == (before.host, before.port)
    client = redis.Redis.from_url(before.url, retry=Retry(NoBackoff(), 0))
    client.set("kept", 42)
    assert client.wait(2, 5000) == 2, "both replicas have it"
    client.close()
    before.kill()
    after = until(lambda: other_than(before, own_sentinels.master()), "another master")
    assert after is not before
    assert sentinel.discover_master(SENTINEL_SERVICE) == (after.host, after.port)
    with redis.Redis.from_url(after.url) as client:
        assert client.get("kept") == b"42"


def test_cluster_serves_a_key_again_after_its_master_is_killed(own_cluster: Cluster) -> None:
    from servers.sets import until

    nodes = [cast(Any, ClusterNode)(node.host, node.port) for node in own_cluster.nodes]
    client = RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.1), 100), socket_timeout=2)
    for number in range(50):
        assert client.set(f"k{number}", number)
    before = own_cluster.master_of("k7")
    with redis.Redis.from_url(before.url) as direct:
        assert direct.get("k7") == b"7"
        assert direct.wait(1, 5000) == 1
    before.kill()
    after = until(lambda: other_than(before, own_cluster.master_of("k7")), "another master of k7")
    assert after is not before
    assert client.get("k7") == b"7"
    assert client.set("k7", 8)
    before.start()
    assert client.get("k7") == b"8"
    client.close()


def test_ensemble_elects_another_leader_and_keeps_the_session(own_ensemble: Ensemble) -> None:
    from servers.sets import mode, until

    client = KazooClient(hosts=own_ensemble.url.removeprefix("zookeeper://"), timeout=10)
    client.start(timeout=20)
    try:
        session = client.client_id
        client.create("/kept", b"42", ephemeral=True)
        before = own_ensemble.leader()
        before.kill()
        after = own_ensemble.leader()
        assert after is not before
        client.retry(client.set, "/kept", b"43")
        assert client.retry(client.get, "/kept")[0] == b"43"
        assert client.client_id == session
        before.start()
        until(lambda: mode(before) == "follower", "the old leader to follow")
    finally:
        client.stop()
        client.close()


def test_members_are_published_on_this_machine_only_and_can_be_paused_alone(own_ensemble: Ensemble) -> None:
    from servers.sets import mode

    leader = own_ensemble.leader()
    follower = next(member for member in own_ensemble.members if member is not leader)
    follower.pause()
    assert mode(follower) is None
    assert own_ensemble.leader() is leader
    follower.unpause()
    assert {member.host for member in own_ensemble.members} == {"127.0.0.1"}
