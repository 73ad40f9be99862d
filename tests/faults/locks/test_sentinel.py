"""Sentinel replaces the master under holders and waiters: killed, frozen, and back as one who does not know yet."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from backstay.errors import NotAcquired
from backstay.locks import Locks
from faults.locks.workers import until, working

if TYPE_CHECKING:
    from servers.server import Server
    from servers.sets import Sentinels

pytestmark = pytest.mark.timeout(180)

TTL = 1.2
"""Shorter than any failover, so that a grant which the new master has not heard of is over when it takes office."""


def replaced(sentinels: Sentinels, before: Server) -> Server:
    """Wait until the Sentinels agree on another master."""
    until(lambda: sentinels.master() is not before)
    return sentinels.master()


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_R9_holders_and_waiters_go_on_with_the_new_master(own_sentinels: Sentinels, fault: str) -> None:
    before = own_sentinels.master()
    with working(own_sentinels.url, "x", ttl=TTL) as history:
        history.wait_for(3)
        getattr(before, fault)()
        replaced(own_sentinels, before)
        history.wait_for(3)
        if fault == "kill":
            before.start()
        else:
            before.unpause()  # it says that it is the master, for some seconds, to everybody who asks it
        history.wait_for(30)


def test_R9_a_waiter_that_queued_at_the_dead_master_gets_the_lock_from_the_new_one(own_sentinels: Sentinels) -> None:
    got: list[float] = []
    before = own_sentinels.master()

    def wait() -> None:
        with (
            Locks.connect(own_sentinels.url, namespace="faults") as others,
            others.mutex("x", ttl=10.0, wait=40.0) as mine,
        ):
            mine.check()
            got.append(time.monotonic())

    with Locks.connect(own_sentinels.url, namespace="faults") as locks, redis.Redis.from_url(before.url) as server:
        lease = locks.mutex("x", ttl=20.0).acquire()
        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: server.llen("backstay:faults:{x}:queue") == 1)
        assert server.wait(2, 5000) == 2, "the replicas know of the holder and the waiter"
        before.kill()
        replaced(own_sentinels, before)
        until(lambda: lease.is_valid() and not got)
        lease.extend(20.0)  # at the new master, which had heard of the grant
        time.sleep(3.0)  # the waiter has looked again there
        released = time.monotonic()
        lease.release()
        waiter.join(30.0)
    assert got
    assert got[0] - released < 1.0, "it had subscribed at the new master, and was told"


def test_R10_a_demoted_master_that_does_not_know_it_grants_with_rising_fences_and_with_min_replicas_not_at_all(
    own_sentinels: Sentinels,
) -> None:
    """The window that no client can close by itself: one who reaches only the old master."""
    before = own_sentinels.master()
    with Locks.connect(own_sentinels.url, namespace="faults") as locks, locks.mutex("x") as first:
        pass
    before.pause()
    replaced(own_sentinels, before)
    with Locks.connect(own_sentinels.url, namespace="faults") as locks:
        current = locks.mutex("x", ttl=60.0, wait=20.0).acquire()
        assert current.fence > first.fence
        before.unpause()
        careful = Locks.connect(f"{before.url}?min_replicas=1", namespace="faults", answer_within=0.5)
        careless = Locks.connect(before.url, namespace="faults", answer_within=0.5)
        with careful, careless:
            with pytest.raises(NotAcquired, match="0 of 1 replicas confirmed"):
                careful.mutex("x", wait=0.0).acquire()
            second = careless.mutex("x", ttl=2.0, wait=3.0).acquire()
            assert second.is_valid()
            assert current.is_valid(), "two at once: what the guarantee excludes by name"
            assert second.fence > current.fence, "the resource can tell them apart"
        current.check()
        current.release()
