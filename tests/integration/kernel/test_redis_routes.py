"""Real servers in every shape: TLS, credentials, handed-over clients, Sentinel and Cluster, for locks and limiters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import trustme
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from backstay.blocking import drive
from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, RateLimited, Unavailable
from backstay.locks import AsyncLocks, Locks
from backstay.locks.backend import Busy
from backstay.locks.backends.redis import RedisSource
from backstay.locks.claims import MUTEX, Resource, permits
from backstay.resilience import AsyncRateLimiter, RateLimiter
from backstay.url import parse

if TYPE_CHECKING:
    from servers.server import Server
    from servers.sets import Cluster, Sentinels

BUDGET = 2.0


def admin(server: Any) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))


def use(target: Any) -> None:
    """Take a lock in both makes, hand it over, and charge a limit in both makes."""
    limit = uuid.uuid4().hex
    with Locks.connect(target, namespace="routes") as locks:
        for number in range(4):
            with locks.mutex(f"a{number}") as lease, pytest.raises(NotAcquired):
                locks.mutex(lease.name, wait=0.0).acquire()

    async def main() -> None:
        async with AsyncLocks.connect(target, namespace="routes") as locks:
            order: list[str] = []

            async def wait() -> None:
                async with locks.mutex("a", wait=20.0):
                    order.append("waiter")

            async with locks.mutex("a"):
                waiter = asyncio.create_task(wait())
                await asyncio.sleep(0.1)
                order.append("holder")
            await waiter
            assert order == ["holder", "waiter"]
        async with AsyncRateLimiter.connect(
            target, rate="2/hour", name=limit, budget=BUDGET, on_store_failure="closed"
        ) as limiter:
            for number in range(4):
                await limiter.acquire(f"k{number}")

    asyncio.run(main())
    with RateLimiter.connect(target, rate="2/hour", name=limit, budget=BUDGET, on_store_failure="closed") as limiter:
        for number in range(4):
            limiter.acquire(f"k{number}")
            with pytest.raises(RateLimited):
                limiter.acquire(f"k{number}")


# -- TLS


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    """An authority of this test's own, and the file that says so."""
    made = trustme.CA()
    file = tmp_path / "authority.pem"
    made.cert_pem.write_to_path(file)
    return made, str(file)


@pytest.fixture
def encrypted(own_redis: Callable[[], Server], authority: tuple[trustme.CA, str]) -> str:
    """`host:port` of a server that speaks TLS only, with a certificate for 127.0.0.1."""
    server = own_redis()
    certificate = authority[0].issue_cert("127.0.0.1")
    for name, pem in (("key", certificate.private_key_pem), ("crt", certificate.cert_chain_pems[0])):
        server.run("sh", "-c", f"umask 022; cat > /tmp/server.{name} <<'PEM'\n{pem.bytes().decode()}\nPEM")
    files = ("tls-cert-file", "/tmp/server.crt", "tls-key-file", "/tmp/server.key", "tls-auth-clients", "no")
    with admin(server) as client:
        client.execute_command("CONFIG", "SET", *files, "port", "0", "tls-port", "6379")
    return f"{server.host}:{server.port}"


def test_tls_with_a_certificate_that_is_verified(encrypted: str, authority: tuple[trustme.CA, str]) -> None:
    use(f"rediss://{encrypted}/0?ssl_ca_certs={authority[1]}")
    host, _, port = encrypted.partition(":")
    use(redis.Redis(host=host, port=int(port), ssl=True, ssl_ca_certs=authority[1]))


def test_tls_with_a_certificate_of_somebody_else_is_refused(encrypted: str) -> None:
    with Locks.connect(f"rediss://{encrypted}/0", answer_within=1.0) as locks:
        with pytest.raises(Unavailable, match=r"(?i)certificate verify failed"):
            locks.mutex("x", wait=0.0).acquire()
    url = f"rediss://{encrypted}/0"
    with RateLimiter.connect(url, rate="1/hour", name="tls", on_store_failure="closed") as limiter:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            limiter.acquire("k")
    with Locks.connect(f"redis://{encrypted}/0", answer_within=1.0) as locks:
        with pytest.raises((Unavailable, OutcomeUnknown)):
            locks.mutex("x", wait=0.0).acquire()


# -- Sentinel and Cluster


def hand_over_past(cluster: Cluster, shared: bool) -> None:
    """Release a lock for which somebody waits who has subscribed at other nodes, to which notes are passed on."""
    channel = f"backstay:routes:mail:{uuid.uuid4().hex}"
    lock = Resource(f"past-{channel[-4:]}", "semaphore" if shared else "lock")
    claim = permits(1, 1) if shared else MUTEX
    server = cluster.master_of(lock.name)
    elsewhere = [node for node in cluster.nodes if node is not server]
    backend = RedisSource.from_url(parse(server.url), "routes", None).blocking()
    fence = drive(backend.take(lock, "h-1-a-1", claim, 60.0, "", 1.0))
    assert isinstance(fence, int)
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(admin(each)).pubsub() for each in elsewhere]
        for each in listening:
            each.subscribe(channel)
            assert each.get_message(timeout=2.0) is not None
        assert isinstance(drive(backend.take(lock, "w-1-b-1", claim, 60.0, channel, 1.0)), Busy)
        drive(backend.release(lock, "h-1-a-1", fence, 1.0))
        assert [each.get_message(timeout=0.3) for each in listening] == [None] * len(elsewhere)
        assert isinstance(drive(backend.take(lock, "n-1-c-1", claim, 60.0, "", 1.0)), int), "nobody else has it"
    drive(backend.close())


@pytest.mark.timeout(180)
def test_sentinel_by_url_and_by_handed_over_clients(own_sentinels: Sentinels) -> None:
    use(own_sentinels.url)
    addresses = [(server.host, server.port) for server in own_sentinels.sentinels]
    blocking: Any = Sentinel
    use(blocking(addresses).master_for("shop"))
    asynchronous: Any = AsyncSentinel
    use(asynchronous(addresses).master_for("shop", db=1))
    with Locks.connect(own_sentinels.url.replace("/shop/", "/nobody/")) as locks:
        with pytest.raises(Misuse, match="no Sentinel knows a master called 'nobody'"):
            locks.mutex("x", wait=0.0).acquire()
    master = own_sentinels.master()
    for server in own_sentinels.redis:
        with admin(server) as client:
            assert ("cmdstat_evalsha" in client.info("commandstats")) is (server is master), "no script at a replica"
    own_sentinels.sentinels[0].kill()
    own_sentinels.sentinels[1].pause()
    use(own_sentinels.url)  # one of three is enough to ask


@pytest.mark.timeout(180)
def test_cluster_by_url_and_by_handed_over_clients(own_cluster: Cluster) -> None:
    use(own_cluster.url)
    for shared in (False, True):
        hand_over_past(own_cluster, shared)
    made: Any = ClusterNode
    with RedisCluster(startup_nodes=[made(node.host, node.port) for node in own_cluster.nodes]) as client:
        use(client)
    untyped: Any = redis.asyncio.RedisCluster
    use(untyped(host=own_cluster.nodes[0].host, port=own_cluster.nodes[0].port))
    use(f"{own_cluster.url}?min_replicas=1")
    with Locks.connect(own_cluster.url, namespace="listed") as locks:
        leases = [locks.mutex(str(number)).acquire() for number in range(40)]
        found = drive(locks._protocol.backend.resources(100, 5.0))
        assert set(found) == {Resource(str(number), "lock") for number in range(40)}, "of every node"
        for lease in leases:
            lease.release()
    with Locks.connect(own_cluster.nodes[0].url, namespace="alone") as locks:
        with pytest.raises(Unavailable, match=r"connect with redis\+cluster://"):
            for number in range(10):
                locks.mutex(str(number), wait=0.0).acquire().release()
    with Locks.connect(f"redis+cluster://127.0.0.1:{own_cluster.nodes[0].port}", namespace="one-seed") as locks:
        for number in range(10):
            locks.mutex(str(number), wait=0.0).acquire().release()


def test_a_server_alone_is_no_cluster(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis+cluster://").rpartition("/")[0]
    with Locks.connect(url) as locks:
        with pytest.raises(Misuse, match="connect with redis://"):
            locks.mutex("x", wait=0.0).acquire()


# -- replicas, demotion, eviction


def test_R10_without_replicas_a_grant_is_given_back_on_both_faces(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    with (
        Locks.connect(f"{server.url}?min_replicas=1", namespace="routes", answer_within=0.3) as locks,
        Locks.connect(server.url, namespace="routes") as plain,
        admin(server) as client,
    ):
        with pytest.raises(NotAcquired, match="0 of 1 replicas confirmed"):
            locks.mutex("x", ttl=60.0, wait=0.0).acquire()
        assert not client.exists("backstay:routes:{x}:owner")

        async def main() -> None:
            async with AsyncLocks.connect(
                f"{server.url}?min_replicas=1", namespace="routes", answer_within=0.3
            ) as others:
                tries = [others.mutex(f"y{number}", ttl=60.0, wait=0.0).acquire() for number in range(40)]
                outcomes = await asyncio.gather(*tries, return_exceptions=True)
                assert all(isinstance(each, (NotAcquired, OutcomeUnknown)) for each in outcomes), outcomes
                assert any(isinstance(each, NotAcquired) for each in outcomes)

        asyncio.run(main())
        with plain.mutex("x", wait=0.0):
            pass


def test_R10_a_handed_over_grant_is_confirmed_as_well(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    with (
        Locks.connect(f"{server.url}?min_replicas=1", namespace="routes", answer_within=0.4) as locks,
        Locks.connect(server.url, namespace="routes") as plain,
        admin(server) as client,
    ):
        lease = plain.mutex("x", ttl=60.0).acquire()
        refused: list[BaseException] = []

        async def wait() -> None:
            async with AsyncLocks.connect(
                f"{server.url}?min_replicas=1", namespace="routes", answer_within=0.4
            ) as others:
                tries: list[asyncio.Future[Any]] = [
                    asyncio.ensure_future(others.mutex("x", ttl=60.0, wait=20.0).acquire())
                ]
                tries.append(asyncio.ensure_future(asyncio.to_thread(locks.mutex("x", ttl=60.0, wait=20.0).acquire)))
                while client.llen("backstay:routes:{x}:queue") < 2:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(lease.release)
                outcomes = await asyncio.gather(*tries, return_exceptions=True)
                refused.extend(each for each in outcomes if isinstance(each, NotAcquired))

        asyncio.run(wait())
        assert len(refused) == 2
        assert all("replicas confirmed" in str(each) for each in refused)
        assert not client.exists("backstay:routes:{x}:owner")


def test_R9_a_demoted_server_refuses_and_is_left(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    with (
        Locks.connect(server.url, namespace="routes") as locks,
        RateLimiter.connect(server.url, rate="9/hour", name="demoted", budget=BUDGET) as limiter,
        admin(server) as client,
    ):
        locks.mutex("x").acquire().release()
        limiter.acquire("k")
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(Unavailable, match="does not serve writes now"):
            locks.mutex("x", wait=0.0).acquire()
        assert limiter.try_acquire("k").result == "store_error_open"

        async def main() -> None:
            async with AsyncLocks.connect(server.url, namespace="routes") as others:
                with pytest.raises(Unavailable, match="does not serve writes now"):
                    await others.mutex("x", wait=0.0).acquire()
                await asyncio.to_thread(client.replicaof, "NO", "ONE")
                await (await others.mutex("x", wait=2.0).acquire()).release()

        asyncio.run(main())
        locks.mutex("x", wait=2.0).acquire().release()


def test_R11_a_server_that_evicts_is_refused_on_both_faces_and_can_be_allowed(
    own_redis: Callable[[], Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = own_redis()
    with admin(server) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "volatile-lru")

        async def asynchronous(url: str) -> None:
            async with AsyncLocks.connect(url) as locks, locks.mutex("x", wait=0.0):
                pass

        with Locks.connect(server.url) as locks:
            with pytest.raises(Misuse, match="maxmemory-policy is volatile-lru. Set it to noeviction"):
                locks.mutex("x", wait=0.0).acquire()
            with pytest.raises(Misuse, match="noeviction"):
                asyncio.run(asynchronous(server.url))
            client.config_set("maxmemory-policy", "noeviction")
            locks.mutex("x", wait=0.0).acquire().release()
            client.config_set("maxmemory-policy", "allkeys-random")
            locks.mutex("x", wait=0.0).acquire().release()  # once for each server, off the hot path
        with caplog.at_level(logging.WARNING):
            asyncio.run(asynchronous(f"{server.url}?eviction=allow"))
        assert "may evict keys of locks" in caplog.text
        client.acl_setuser("shop", enabled=True, nopass=True, keys=["*"], channels=["*"],
                           commands=["+@all", "-config"])  # fmt: skip
        host = server.url.split("://")[1]
        with Locks.connect(f"redis://shop:any@{host}") as locks:
            with pytest.raises(Misuse, match="allkeys-random"):  # told by INFO, where CONFIG is refused
                locks.mutex("x", wait=0.0).acquire()


def test_an_acl_with_what_the_page_names_is_enough(own_redis: Callable[[], Server]) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/redis-topologies.md").read_text()
    rules = re.findall(r"(?<=[` ])[+~&][a-z@*:|]+", page.partition("## What an ACL has to allow")[2])
    assert len(rules) > 15
    server = own_redis()
    with admin(server) as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">s3cret", *rules)
    host = server.url.split("://")[1]
    use(f"redis://shop:s3cret@{host}")
    use(f"redis://shop:s3cret@{host.rpartition('/')[0]}/1")
    with Locks.connect(f"redis://shop:s3cret@{host}?min_replicas=1", namespace="acl", answer_within=0.3) as locks:
        with pytest.raises(NotAcquired, match="0 of 1 replicas"):
            locks.mutex("x", wait=0.0).acquire()
