"""Which servers a URL or a client means, and what is refused; nothing is sent."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from backstay.errors import Misuse
from backstay.redis import SCHEMES, Settings, Shape, Target, target


def test_a_single_server() -> None:
    read = target("rediss://shop:s3cret@cache:6380/3?socket_timeout=0.5&ssl_cert_reqs=none")
    assert (read.shape, read.patience) == (Shape.SINGLE, 0.5)
    assert (read.settings.kind, read.settings.host, read.settings.port, read.settings.db) == ("tls", "cache", 6380, 3)
    assert read.settings.credentials() == ("shop", "s3cret")
    assert target("redis://cache").patience == 2.0
    assert target("redis://cache?socket_timeout=0.5", 1.5).patience == 1.5


def test_a_socket_in_the_file_system() -> None:
    read = target("unix:///run/redis.sock?db=2")
    assert (read.settings.kind, read.settings.path, read.settings.db) == ("unix", "/run/redis.sock", 2)
    assert read.settings.label == "unix:///run/redis.sock?db=2"


def test_sentinels_and_the_name_of_the_master() -> None:
    read = target(
        "redis+sentinel://shop:s3cret@a,b:26380,[::1]:26381/orders/4"
        "?sentinel_username=watch&sentinel_password=w0rd&min_replicas=1"
    )
    assert read.shape is Shape.SENTINEL
    assert read.places == (("a", 26379), ("b", 26380), ("::1", 26381))
    assert (read.service, read.settings.db, read.min_replicas) == ("orders", 4, 1)
    assert read.settings.at("m", 1).credentials() == ("shop", "s3cret")
    assert read.sentinel.at("a", 26379).credentials() == ("watch", "w0rd")
    assert read.sentinel.db == 0, "a Sentinel has no databases"
    assert target("redis+sentinel://shop:s3cret@a/orders").sentinel.credentials() == (), "not the server's password"


def test_the_nodes_of_a_cluster() -> None:
    read = target("rediss+cluster://:s3cret@a:7000,b?eviction=allow")
    assert read.shape is Shape.CLUSTER
    assert read.places == (("a", 7000), ("b", 6379))
    assert (read.settings.kind, read.eviction) == ("tls", "allow")
    assert read.settings.credentials() == ("s3cret",)


def test_every_scheme_is_read() -> None:
    shapes = {scheme: target(f"{scheme}://host:1234/name" if "sentinel" in scheme else f"{scheme}://host:1234")
              for scheme in SCHEMES}  # fmt: skip
    assert {each.shape for each in shapes.values()} == set(Shape)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://a,b", "name the master"),
        ("redis+sentinel:///orders", "at least one host"),
        ("redis+sentinel://a/orders/x", "database .* is a number"),
        ("redis+sentinel://a/orders/0/more", "expected 'redis.sentinel"),
        ("redis+cluster://", "at least one host"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a/0/1", "expected 'redis.cluster"),
        ("redis://a/x", "database .* is a number"),
        ("redis://a?min_replicas=one", "min_replicas is a number"),
        ("redis://a?min_replicas=101", "from 0 to 100"),
        ("redis://a?eviction=perhaps", "'refuse' or 'allow'"),
        ("redis://a?timeout=3", "no option 'timeout'"),
    ],
)
def test_mistakes_are_refused_when_the_url_is_read(url: str, says: str) -> None:
    with pytest.raises(Misuse, match=says):
        target(url)


@pytest.mark.parametrize("made", [redis.Redis, redis.asyncio.Redis])
def test_a_client_of_a_server_is_copied_in_either_make(made: Any) -> None:
    read = target(made(host="cache", port=6380, db=3, password="s3cret", decode_responses=True, socket_timeout=0.7))
    assert (read.settings.host, read.settings.port, read.settings.db) == ("cache", 6380, 3)
    assert read.patience == 0.7
    assert "decode_responses" not in read.settings.options
    assert read.label == "redis://cache:6380/3"
    assert target(made(host="cache", ssl=True, ssl_cert_reqs="none")).settings.kind == "tls"
    assert target(made(unix_socket_path="/run/r.sock")).settings.path == "/run/r.sock"


@pytest.mark.parametrize("made", [Sentinel, AsyncSentinel])
def test_a_sentinels_client_is_copied_in_either_make(made: Any) -> None:
    watching = made([("a", 26379), ("b", 26380)], sentinel_kwargs={"password": "w0rd"}, socket_timeout=0.7)
    read = target(watching.master_for("orders", db=4, password="s3cret"))
    assert read.shape is Shape.SENTINEL
    assert (read.places, read.service) == ((("a", 26379), ("b", 26380)), "orders")
    assert (read.settings.db, read.settings.credentials()) == (4, ("s3cret",))
    assert read.sentinel.credentials() == ("w0rd",)
    with pytest.raises(Misuse, match="a client of replicas"):
        target(watching.slave_for("orders"))


def test_a_clusters_asyncio_client_is_copied() -> None:
    untyped: Any = redis.asyncio.RedisCluster
    read = target(untyped(host="a", port=7000, password="s3cret"))
    assert (read.shape, read.places) == (Shape.CLUSTER, (("a", 7000),))
    assert read.settings.at("b", 1).credentials() == ("s3cret",)


def test_a_clusters_client_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    # It asks its nodes when it is made; a real one is handed over in tests/integration/kernel/test_redis_routes.py.
    monkeypatch.setattr("redis.cluster.NodesManager.initialize", lambda *_, **__: None)
    monkeypatch.setattr("redis.cluster.CommandsParser", lambda _: None)
    node: Any = ClusterNode
    read = target(RedisCluster(startup_nodes=[node("a", 7000), node("b", 7001)], password="s3cret", ssl=True))
    assert (read.shape, read.places) == (Shape.CLUSTER, (("a", 7000), ("b", 7001)))
    assert (read.settings.kind, read.settings.credentials()) == ("tls", ("s3cret",))


@pytest.mark.parametrize("given", [None, 7, object(), redis.ConnectionPool()])
def test_anything_else_is_refused(given: object) -> None:
    with pytest.raises(Misuse, match="pass a URL"):
        target(given)


def test_ocsp_is_refused_and_not_dropped() -> None:
    with pytest.raises(Misuse, match="OCSP"):
        target(redis.Redis(ssl=True, ssl_validate_ocsp=True))


@pytest.mark.parametrize(
    "url",
    ["redis://shop:s3cret@a/0", "redis+sentinel://shop:s3cret@a/orders?sentinel_password=s3cret",
     "redis+cluster://shop:s3cret@a,b"],
)  # fmt: skip
def test_no_secret_is_shown(url: str) -> None:
    read = target(url)
    assert "s3cret" not in f"{read!r} {read} {read.label} {read.settings!r} {read.settings} {read.sentinel!r}"
    with pytest.raises(Misuse) as refused:
        target(url + ("&" if "?" in url else "?") + "nonsense=1")
    assert "s3cret" not in str(refused.value)


def test_identity_is_that_of_servers_and_users() -> None:
    one, same = target("redis://a/1"), target("redis://a/1")
    assert one.identity == same.identity
    others = ["redis://b:pw@a/1", "redis://a/2", "rediss://a/1", "redis+cluster://a", "redis+sentinel://a/m/1"]
    assert len({one.identity, *(target(url).identity for url in others)}) == 6
    hash(target(redis.Redis(socket_keepalive_options={1: 2})).identity)  # a value that has no hash of its own


def test_settings_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(Misuse, match="tcp, tls, unix"):
        Settings(kind="udp")
    with pytest.raises(Misuse, match="min_replicas"):
        Target(settings=Settings(), label="x", min_replicas=True)
