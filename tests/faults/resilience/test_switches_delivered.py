"""Switches by URL from a real Redis and a real ZooKeeper, typed and with an end to each share (SW-4, SW-5)."""

from __future__ import annotations

import pytest

from backstay.resilience import Switches
from backstay.resilience.delivery.backends.redis import RedisPublisher
from backstay.resilience.delivery.backends.zookeeper import ZookeeperPublisher
from backstay.resilience.delivery.envelope import Envelope
from faults.resilience.config_planes import SCOPE, until


def sealed(version: int, size: int) -> Envelope:
    size_switch = {"variants": {"small": 20, "large": size}, "default": "small", "split": {"large": 100}}
    return Envelope.seal(
        scope=SCOPE, epoch=1, version=version, items={"switches": {"page_size": size_switch, "catalogue": True}}
    )


@pytest.mark.parametrize("engine", ["redis", "zookeeper"])
def test_SW5_switches_connect_by_url(redis_url: str, zookeeper_url: str, engine: str) -> None:
    publisher: RedisPublisher | ZookeeperPublisher
    url = f"{redis_url if engine == 'redis' else zookeeper_url}?scope={SCOPE}"
    publisher = RedisPublisher(url) if engine == "redis" else ZookeeperPublisher(url)
    assert publisher.publish(sealed(1, 100))
    switches = Switches.connect(url, defaults={"page_size": 10, "catalogue": True})
    until(lambda: switches.status().state == "ready")
    assert switches.number("page_size", "customer-1") == 100
    assert switches.details("page_size", "customer-1").version == 1
    assert publisher.publish(sealed(2, 200))
    assert until(lambda: switches.number("page_size", "customer-1") == 200) < 2.0  # by push: pulls are 30 s apart
    switches.plane.close()
    if isinstance(publisher, ZookeeperPublisher):
        publisher.close()
