"""SW-12 on a real Redis: killed, frozen, push lost, doubled, reordered, cut short, an old epoch, emptied."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.resilience.delivery.backends.redis import RedisPublisher, RedisSource
from backstay.resilience.delivery.envelope import Cursor
from backstay.resilience.delivery.pace import Pace
from backstay.testing.proxy import FaultProxy
from faults.resilience.config_planes import QUICK, RARE, SCOPE, document, planes, until
from servers.server import Server
from servers.sets import Sentinels

pytestmark = pytest.mark.timeout(120)

KEY = f"backstay:config:1:{{{SCOPE}}}"


def source(url: str) -> RedisSource:
    return RedisSource(url, scope=SCOPE, timeout=0.5, heartbeat=0.3)


def raw(url: str) -> Any:
    """A client for what no publisher does."""
    driver: Any = redis.Redis
    return driver.from_url(url)


@pytest.fixture
def publisher(redis_url: str) -> RedisPublisher:
    return RedisPublisher(redis_url, scope=SCOPE, timeout=2.0)


def test_SW8_only_something_newer_replaces_and_the_same_again_is_no_change(
    redis_url: str, publisher: RedisPublisher
) -> None:
    reader = source(redis_url)
    with pytest.raises(Unavailable, match="holds no document"):
        reader.fetch(None, 0)
    assert not publisher.publish(document(3), base=Cursor(1, 2))
    first = document(3)
    assert publisher.publish(first)
    assert publisher.publish(first)
    assert not publisher.publish(document(3, size=500))  # another content under the same version
    assert not publisher.publish(document(2))
    assert not publisher.publish(document(4), base=Cursor(1, 2))
    assert publisher.publish(document(4), base=Cursor(1, 3))
    found = reader.fetch(Cursor(1, 3), 0)
    assert found is not None
    assert found.cursor == (1, 4)
    assert reader.fetch(Cursor(1, 4), 0) is None
    assert publisher.publish(document(1, epoch=2))
    assert not publisher.publish(document(9, epoch=1))
    with pytest.raises(Misuse, match="got one of 'other/production'"):
        publisher.publish(document(9, scope="other/production"))


def test_SW8_of_many_publishers_on_one_base_exactly_one_succeeds(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(1))
    begin, done = threading.Barrier(8), list[bool]()

    def publish(number: int) -> None:
        mine = RedisPublisher(redis_url, scope=SCOPE)
        begin.wait()
        done.append(mine.publish(document(2, size=500 * (number + 1)), base=Cursor(1, 1)))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 7 + [True]


def test_SW4_a_push_arrives_in_50_ms_also_of_a_document_too_large_to_carry(
    redis_url: str, publisher: RedisPublisher
) -> None:
    publisher.publish(document(1))
    with planes(source(redis_url), RARE) as (plane, kept):
        until(lambda: kept.numbers == [1] and plane.status().connected)
        delays: list[float] = []
        for version in range(2, 22):
            began = time.monotonic()
            publisher.publish(document(version, size=100_000 if version == 21 else 0))
            until(lambda version=version: kept.numbers[-1] == version)  # type: ignore[misc]  # mypy has no type for it
            delays.append(kept.moments[-1] - began)
        assert kept.numbers == list(range(1, 22))
        assert sorted(delays)[len(delays) // 4] < 0.05  # a quarter: the machine may be busy with other tests


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_SW12_values_outlive_the_server_and_news_come_when_it_is_back(
    own_redis: Callable[[], Server], how: str
) -> None:
    server = own_redis()
    publisher = RedisPublisher(server.url, scope=SCOPE, timeout=1.0)
    publisher.publish(document(1))
    with planes(source(server.url), QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        (server.kill if how == "killed" else server.pause)()
        until(lambda: plane.status().state == "stale")
        until(lambda: not plane.status().connected)
        with pytest.raises((Unavailable, OutcomeUnknown)):
            publisher.publish(document(2))
        until(lambda: plane.status().state == "error")  # beyond its grace; what is held counts
        assert plane.current is not None
        (server.start if how == "killed" else server.unpause)()
        until(lambda: _published(publisher, 3))
        until(lambda: kept.numbers[-1] == 3 and plane.status().state == "ready")
        until(lambda: plane.status().connected)
        assert kept.numbers in ([1, 3], [1, 2, 3])  # a frozen server may have heard of 2


def _published(publisher: RedisPublisher, version: int) -> bool:
    try:
        return publisher.publish(document(version))
    except (Unavailable, OutcomeUnknown):
        return False


def test_SW12_a_lost_push_costs_a_pull_interval_and_no_more(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(redis_url), QUICK) as (plane, kept), raw(redis_url) as client:
        until(lambda: plane.status().connected)
        newer = document(2)
        fields = {"epoch": 1, "version": 2, "checksum": newer.checksum, "document": newer.to_bytes()}
        client.hset(KEY, mapping=fields)  # and nobody is told
        assert until(lambda: kept.numbers == [1, 2]) < 1.0 + 0.5


def test_SW4_a_channel_that_falls_silent_is_noticed_and_made_anew(redis_url: str, publisher: RedisPublisher) -> None:
    parts = redis_url.split("://", 1)[1].split("/", maxsplit=1)[0].rsplit("@", maxsplit=1)[-1].split(":")
    publisher.publish(document(1))
    with FaultProxy(parts[0], int(parts[1])) as proxy, planes(source(proxy.url(redis_url)), RARE) as (plane, kept):
        until(lambda: plane.status().connected)
        proxy.drop_replies(matching=b"PING", times=1, cut=False)  # from then on that connection is silent
        publisher.publish(document(2))
        until(lambda: not plane.status().connected)
        proxy.heal()
        until(lambda: plane.status().connected)
        until(lambda: kept.numbers[-1] == 2)
        publisher.publish(document(3))
        assert until(lambda: kept.numbers[-1] == 3) < 1.0  # by push: the next pull is a minute away


def test_SW12_news_doubled_reordered_cut_short_or_of_an_old_epoch_do_no_harm(
    redis_url: str, publisher: RedisPublisher
) -> None:
    publisher.publish(document(5, epoch=2))
    with planes(source(redis_url), RARE) as (plane, kept), raw(redis_url) as client:
        until(lambda: plane.status().connected)

        (channel,) = client.pubsub_channels(f"{KEY}:news:*")

        def tell(*messages: bytes) -> None:
            for message in messages:
                assert client.publish(channel, message) == 1

        whole = {version: b"2 %d\n" % version + document(version, epoch=2).to_bytes() for version in (5, 6, 7)}
        tell(whole[6], whole[6], whole[5])
        until(lambda: kept.numbers == [5, 6])
        tell(b"2 7\n" + document(7, epoch=2).to_bytes()[:-20])  # cut short
        tell(b"", b"\xff", b"x y\n", b"1 2 3\n", b"2 99\n" + document(7, epoch=2).to_bytes())
        tell(b"1 900\n" + document(900, epoch=1).to_bytes())  # an old epoch, replayed
        tell(b"2 6\n" + document(6, epoch=2).to_bytes().replace(b'"number":6', b'"number":9'))  # and forged
        publisher.publish(document(7, epoch=2))
        until(lambda: kept.numbers[-1] == 7)
        assert kept.numbers == [5, 6, 7]
        assert plane.status().epoch == 2


def test_another_database_of_the_server_is_another_store(redis_url: str, publisher: RedisPublisher) -> None:
    number = int(redis_url.rpartition("/")[2])
    other = RedisPublisher(f"{redis_url.rpartition('/')[0]}/{(number + 1) % 16}", scope="shop/next-door")
    publisher = RedisPublisher(redis_url, scope="shop/next-door")
    publisher.publish(document(1, scope="shop/next-door"))
    with planes(RedisSource(redis_url, scope="shop/next-door"), RARE) as (plane, kept):
        until(lambda: plane.status().connected)
        assert other.publish(document(7, scope="shop/next-door"))
        assert publisher.publish(document(2, scope="shop/next-door"))
        until(lambda: kept.numbers[-1] == 2)
        assert kept.numbers == [1, 2]


def test_SW12_an_emptied_or_older_store_takes_nothing_away(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(5))
    with planes(source(redis_url), QUICK) as (plane, kept), raw(redis_url) as client:
        until(lambda: plane.status().connected)
        client.flushdb()
        until(lambda: "holds no document" in plane.status().problem)
        assert publisher.publish(document(3))  # a copy of last week
        until(lambda: "put back" in plane.status().problem)
        assert kept.numbers == [5]
        assert publisher.publish(document(1, epoch=2))  # the store's operator makes it a new epoch
        until(lambda: kept.numbers == [5, 1] and plane.status().state == "ready")


def test_SW12_what_is_no_document_is_refused_and_told(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(redis_url), QUICK) as (plane, kept), raw(redis_url) as client:
        until(lambda: plane.status().connected)
        client.hset(KEY, mapping={"version": 2, "document": document(2).to_bytes()[:100]})
        until(lambda: plane.status().state == "error")
        assert "truncated" in plane.status().problem
        assert kept.numbers == [1]
        assert publisher.publish(document(3))
        until(lambda: kept.numbers == [1, 3] and plane.status().state == "ready")


def test_SW12_a_publication_that_was_not_answered_is_unknown_and_safe_to_repeat(
    redis_url: str, publisher: RedisPublisher
) -> None:
    parts = redis_url.split("://", 1)[1].split("/", maxsplit=1)[0].rsplit("@", maxsplit=1)[-1].split(":")
    with FaultProxy(parts[0], int(parts[1])) as proxy:
        through = RedisPublisher(proxy.url(redis_url), scope=SCOPE, timeout=1.0)
        proxy.drop_replies(matching=b"EVAL", times=1)
        newer = document(1)
        with pytest.raises(OutcomeUnknown):
            through.publish(newer)
        assert through.publish(newer)
        assert not publisher.publish(document(1, size=500))


def test_SW12_a_slow_consumer_misses_versions_and_no_last_one(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(redis_url), Pace(pull_interval=2.0)) as (plane, kept):
        until(lambda: plane.status().connected)
        for version in range(2, 600):
            publisher.publish(document(version))
        until(lambda: kept.numbers[-1] == 599)
        assert kept.numbers == sorted(kept.numbers)


def test_SW12_a_failover_keeps_the_values_and_finds_the_new_master(own_sentinels: Sentinels) -> None:
    publisher = RedisPublisher(own_sentinels.url, scope=SCOPE, timeout=1.0)
    publisher.publish(document(1))
    reader = RedisSource(own_sentinels.url, scope=SCOPE, timeout=1.0, heartbeat=0.3)
    with planes(reader, QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        own_sentinels.master().kill()
        until(lambda: _published(publisher, 2), within=60)
        until(lambda: kept.numbers[-1] == 2 and plane.status().state == "ready", within=60)
        until(lambda: plane.status().connected, within=60)


def test_SW11_a_forked_child_listens_by_itself(redis_url: str, publisher: RedisPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(redis_url), RARE) as (plane, kept):
        until(lambda: plane.status().connected)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                until(lambda: plane.status().connected)
                until(lambda: kept.numbers[-1] == 2 and plane.status().state == "ready")
                code = 0
            finally:
                os._exit(code)
        with raw(redis_url) as client:
            until(lambda: sum(dict(client.pubsub_numsub(*client.pubsub_channels(f"{KEY}:news:*"))).values()) == 2)
        publisher.publish(document(2))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publisher.publish(document(3))
        assert until(lambda: kept.numbers == [1, 2, 3]) < 1.0  # the parent's connection was left alone


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://localhost", "say whose documents"),
        ("redis://localhost?scope=a b", "a scope is like"),
        ("redis://localhost?scope=a&scop=a", "no option 'scop'"),
    ],
)
def test_a_wrong_url_is_told(url: str, told: str) -> None:
    with pytest.raises(Misuse, match=told):
        RedisSource(url)
