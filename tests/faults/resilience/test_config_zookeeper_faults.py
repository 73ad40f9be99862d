"""SW-12 on a real ZooKeeper: killed, frozen, cut off, sessions that end, races, an old epoch, emptied, a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.resilience.delivery.backends.zookeeper import ZookeeperPublisher, ZookeeperSource
from backstay.resilience.delivery.envelope import Cursor
from backstay.testing.proxy import FaultProxy
from faults.resilience.config_planes import QUICK, RARE, SCOPE, document, planes, until
from servers.server import Server
from servers.sets import Ensemble

pytestmark = pytest.mark.timeout(120)


def source(url: str) -> ZookeeperSource:
    return ZookeeperSource(url, scope=SCOPE, timeout=1.0, session=2.0)


@pytest.fixture
def publisher(zookeeper_url: str) -> Iterator[ZookeeperPublisher]:
    made = ZookeeperPublisher(zookeeper_url, scope=SCOPE)
    yield made
    made.close()


def raw(url: str) -> Any:
    """A started client for what no publisher does; its root is the test's."""
    driver: Any = KazooClient
    client: Any = driver(hosts=url.removeprefix("zookeeper://"))
    client.start()
    return client


NODE = f"/backstay/config/{SCOPE}"


def put(publisher: ZookeeperPublisher, version: int) -> bool:
    try:
        return publisher.publish(document(version))
    except (Unavailable, OutcomeUnknown):
        return False


def test_SW8_only_something_newer_replaces_and_the_same_again_is_no_change(
    zookeeper_url: str, publisher: ZookeeperPublisher
) -> None:
    reader = source(zookeeper_url)
    with pytest.raises(Unavailable, match="holds no document"):
        reader.fetch(None, 0)
    assert not publisher.publish(document(3), base=Cursor(1, 2))
    first = document(3)
    assert publisher.publish(first)
    assert publisher.publish(first)
    assert not publisher.publish(document(3, size=500))
    assert not publisher.publish(document(2))
    assert not publisher.publish(document(4), base=Cursor(1, 2))
    assert publisher.publish(document(4), base=Cursor(1, 3))
    assert reader.fetch(Cursor(1, 4), 0) is None
    found = reader.fetch(Cursor(1, 3), 0)
    assert found is not None
    assert found.cursor == (1, 4)
    assert publisher.publish(document(1, epoch=2))
    assert not publisher.publish(document(9, epoch=1))
    with pytest.raises(Misuse, match="got one of 'other/production'"):
        publisher.publish(document(9, scope="other/production"))
    with pytest.raises(Misuse, match="at most 1,000,000 bytes"):
        publisher.publish(document(9, epoch=2, size=980_000))
    reader.close()


def test_SW8_of_many_publishers_on_one_base_exactly_one_succeeds(
    zookeeper_url: str, publisher: ZookeeperPublisher
) -> None:
    publisher.publish(document(1))
    begin, done = threading.Barrier(6), list[bool]()
    several = [ZookeeperPublisher(zookeeper_url, scope=SCOPE) for _ in range(6)]

    def publish(number: int) -> None:
        begin.wait()
        done.append(several[number].publish(document(2, size=500 * (number + 1)), base=Cursor(1, 1)))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in several:
        each.close()
    assert sorted(done) == [False] * 5 + [True]


def test_SW4_a_watch_tells_of_each_new_document(zookeeper_url: str, publisher: ZookeeperPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(zookeeper_url), RARE) as (plane, kept):
        until(lambda: kept.numbers == [1] and plane.status().connected)
        delays: list[float] = []
        for version in range(2, 22):
            began = time.monotonic()
            publisher.publish(document(version))
            until(lambda version=version: kept.numbers[-1] == version)  # type: ignore[misc]  # mypy has no type for it
            delays.append(kept.moments[-1] - began)
        assert kept.numbers == list(range(1, 22))
        assert sorted(delays)[len(delays) // 4] < 0.25  # the publisher's own three steps are in it


def test_SW2_the_first_document_is_heard_of_and_so_is_one_after_the_node_was_deleted(
    zookeeper_url: str, publisher: ZookeeperPublisher
) -> None:
    client = raw(zookeeper_url)
    with planes(source(zookeeper_url), RARE) as (plane, kept):
        assert plane.current is None
        publisher.publish(document(1))
        until(lambda: kept.numbers == [1])
        client.delete(NODE)
        publisher.publish(document(2))
        until(lambda: kept.numbers == [1, 2])
    client.stop()
    client.close()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_SW12_values_outlive_the_server_and_news_come_when_it_is_back(
    own_zookeeper: Callable[[], Server], how: str
) -> None:
    server = own_zookeeper()
    publisher = ZookeeperPublisher(server.url, scope=SCOPE, timeout=1.0, session=2.0)
    publisher.publish(document(1))
    with planes(source(server.url), QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        (server.kill if how == "killed" else server.pause)()
        until(lambda: plane.status().state == "error", within=30)
        assert not plane.status().connected
        with pytest.raises((Unavailable, OutcomeUnknown)):
            publisher.publish(document(2))
        assert plane.current is not None
        (server.start if how == "killed" else server.unpause)()
        until(lambda: put(publisher, 3), within=40)
        until(lambda: kept.numbers[-1] == 3 and plane.status().state == "ready", within=40)
        until(lambda: plane.status().connected, within=40)
    publisher.close()


def test_SW12_a_session_that_ended_while_cut_off_loses_no_news(
    zookeeper_url: str, publisher: ZookeeperPublisher
) -> None:
    host, port = zookeeper_url.removeprefix("zookeeper://").partition("/")[0].split(":")
    publisher.publish(document(1))
    with FaultProxy(host, int(port)) as proxy, planes(source(proxy.url(zookeeper_url)), RARE) as (plane, kept):
        until(lambda: plane.status().connected)
        proxy.refuse()
        proxy.cut()
        until(lambda: not plane.status().connected)
        publisher.publish(document(2))
        time.sleep(6)  # three times the session: the server has given it up, and its watches
        proxy.heal()
        until(lambda: kept.numbers == [1, 2] and plane.status().connected)
        publisher.publish(document(3))
        until(lambda: kept.numbers == [1, 2, 3])


def test_SW12_an_emptied_or_older_or_spoilt_node_takes_nothing_away(
    zookeeper_url: str, publisher: ZookeeperPublisher
) -> None:
    publisher.publish(document(5))
    client = raw(zookeeper_url)
    with planes(source(zookeeper_url), QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        client.set(NODE, document(3).to_bytes())  # a copy of last week
        until(lambda: "put back" in plane.status().problem)
        client.set(NODE, document(6).to_bytes()[:100])
        until(lambda: plane.status().state == "error")
        assert "truncated" in plane.status().problem
        client.delete(NODE)
        until(lambda: "holds no document" in plane.status().problem)
        assert kept.numbers == [5]
        assert publisher.publish(document(1, epoch=2))
        until(lambda: kept.numbers == [5, 1] and plane.status().state == "ready")
    client.stop()
    client.close()


def test_SW12_a_publication_that_was_not_answered_is_unknown_and_safe_to_repeat(zookeeper_url: str) -> None:
    host, port = zookeeper_url.removeprefix("zookeeper://").partition("/")[0].split(":")
    with FaultProxy(host, int(port)) as proxy:
        through = ZookeeperPublisher(proxy.url(zookeeper_url), scope=SCOPE, timeout=3.0)
        assert through.publish(document(1))
        newer = document(2)
        proxy.drop_replies(matching=newer.checksum.encode(), times=1)
        with pytest.raises(OutcomeUnknown):
            through.publish(newer)
        proxy.heal()
        assert through.publish(newer)
        assert not through.publish(document(2, size=500))
        through.close()


def test_SW12_a_member_that_is_killed_is_not_missed(own_ensemble: Ensemble) -> None:
    publisher = ZookeeperPublisher(own_ensemble.url, scope=SCOPE, timeout=2.0, session=4.0)
    publisher.publish(document(1))
    reader = ZookeeperSource(own_ensemble.url, scope=SCOPE, timeout=2.0, session=4.0)
    with planes(reader, QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        own_ensemble.leader().kill()
        until(lambda: put(publisher, 2), within=60)
        until(lambda: kept.numbers[-1] == 2 and plane.status().state == "ready", within=60)
        until(lambda: plane.status().connected, within=60)
    publisher.close()


def test_SW11_a_forked_child_has_a_session_of_its_own(zookeeper_url: str, publisher: ZookeeperPublisher) -> None:
    publisher.publish(document(1))
    with planes(source(zookeeper_url), QUICK) as (plane, kept):
        until(lambda: plane.status().connected)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                until(lambda: kept.numbers[-1] == 2 and plane.status().state == "ready")
                code = 0
            finally:
                os._exit(code)
        publisher.publish(document(2))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        until(lambda: kept.numbers == [1, 2] and plane.status().connected)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("zookeeper://localhost", "say whose documents"),
        ("zookeeper://localhost?scope=a b", "a scope is like"),
        ("zookeeper://localhost?scope=a&scop=b", "expected 'zookeeper://a:2181"),
        ("zookeeper://me:secret@localhost?scope=a", "expected 'zookeeper://a:2181"),
    ],
)
def test_a_wrong_url_is_told(url: str, told: str) -> None:
    with pytest.raises(Misuse, match=told) as refused:
        ZookeeperSource(url)
    assert "secret" not in str(refused.value)
