"""Shared breakers behind Sentinel and in a Cluster: a failover makes them local for a while, and no longer (CB-9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backstay.resilience.circuit_breaker import CircuitBreaker, State
from backstay.resilience.circuit_breaker.shared import SharedBreakers
from faults.locks.workers import until
from unit.resilience.breaker_ways import by_function, run

if TYPE_CHECKING:
    from servers.sets import Cluster, Sentinels

pytestmark = pytest.mark.timeout(180)


def instance(url: str) -> tuple[SharedBreakers, CircuitBreaker]:
    shared = SharedBreakers.connect(url, interval=None, ttl=30.0, budget=0.5)
    return shared, shared.join(CircuitBreaker("payments", consecutive=1, open_for=300))


def warn(both: list[tuple[SharedBreakers, CircuitBreaker]], third: tuple[SharedBreakers, CircuitBreaker]) -> None:
    """Let two see failures, and the third hear of it."""
    for shared, breaker in both:
        assert run(by_function(breaker), "-") == "-"
        until(shared.refresh)
    until(third[0].refresh)
    assert third[1].state is State.OPEN


def test_CB9_after_a_failover_instances_meet_at_the_new_master(own_sentinels: Sentinels) -> None:
    one, two, three = (instance(own_sentinels.url) for _ in range(3))
    for shared, _ in (one, two, three):
        until(shared.refresh)
    before = own_sentinels.master()
    before.kill()
    assert not one[0].refresh()
    until(one[0].refresh)
    assert own_sentinels.master() is not before
    for shared, _ in (two, three):
        until(shared.refresh)
    warn([one, two], three)
    for shared, _ in (one, two, three):
        shared.close()


def test_CB9_names_are_spread_over_a_cluster(own_cluster: Cluster) -> None:
    one, two, three = (instance(own_cluster.url) for _ in range(3))
    for shared, _ in (one, two, three):
        for number in range(5):  # other names live on other nodes
            shared.join(CircuitBreaker(f"other-{number}"))
        assert shared.refresh()
    warn([one, two], three)
    one[0].override("other-3", State.DISABLED)
    assert three[0].refresh()
    assert three[0].view("other-3").override is State.DISABLED
    assert [three[0].view(f"other-{number}").live for number in range(5)] == [3] * 5
    for shared, _ in (one, two, three):
        shared.close()
