"""Terms reach every way to a fence, and fences of two stores are never taken for numbers of one line."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import backstay.locks
from backstay.locks import Locks
from backstay.locks.guards import FencingToken, MemoryFences, StaleFence

TTL = 7.5

WAYS: dict[str, Callable[[Locks], Any]] = {
    "mutex": lambda locks: locks.mutex("x", ttl=TTL).acquire(),
    "reentrant": lambda locks: locks.mutex("x", ttl=TTL, reentrant=True).acquire(),
    "reader": lambda locks: locks.read_write("x", ttl=TTL).read().acquire(),
    "writer": lambda locks: locks.read_write("x", ttl=TTL).write().acquire(),
    "permits": lambda locks: locks.semaphore("x", permits=3, ttl=TTL).acquire(2),
    "stripes": lambda locks: locks.segmented("x", segments=4, ttl=TTL).lock("a", "b").acquire(),
    "whole": lambda locks: locks.segmented("x", segments=4, ttl=TTL).whole().acquire(),
}


@pytest.fixture
def locks() -> Iterator[Locks]:
    with Locks.connect(f"memory://{uuid.uuid4().hex}", namespace="terms") as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_F8_the_ttl_that_was_asked_for_is_that_of_the_fenced_lease(locks: Locks, way: str) -> None:
    lease = WAYS[way](locks)
    (resource,) = locks.held()
    (holder,) = locks.inspect("x", kind=resource.kind).holders
    assert holder.left is not None
    assert TTL - 1.0 < holder.left <= TTL + 0.01
    assert holder.fence == lease.fence > 0
    lease.release()


def test_F8_several_at_once_and_guarded_functions_as_well(locks: Locks) -> None:
    def left() -> list[float]:
        found = [locks.inspect(resource.name, kind=resource.kind).holders for resource in locks.held()]
        return [holder.left or 0.0 for holders in found for holder in holders]

    with locks.multi("a", "b", ttl=TTL) as lease:
        assert len(left()) == len(lease.fences) == 2
        assert all(TTL - 1.0 < seconds <= TTL + 0.01 for seconds in left())

    @locks.guard("g:{key}", ttl=TTL)
    def guarded(key: str) -> list[float]:
        return left()

    (seconds,) = guarded("k")
    assert TTL - 1.0 < seconds <= TTL + 0.01


def test_F7_a_resource_that_moves_to_a_store_with_lower_fences_refuses_them_until_it_is_told() -> None:
    """Microseconds of a clock, then ZooKeeper's number of a change: refused, and never taken for later."""
    resource = MemoryFences()
    resource.admit(FencingToken(name="stock", fence=1_795_000_000_000_000))
    with pytest.raises(StaleFence):
        resource.admit(FencingToken(name="stock", fence=0x2_0000_0007))
    MemoryFences().admit(FencingToken(name="stock", fence=0x2_0000_0007))  # what the page says to do: begin anew


def test_F7_all_stores_but_zookeeper_draw_fences_above_the_clock(locks: Locks) -> None:
    """So a resource may move among them without a fence that falls, and from ZooKeeper to any of them."""
    with locks.mutex("x") as lease:
        assert lease.fence > 1_700_000_000_000_000 > 0xFFFF << 32  # above a czxid of 65,535 epochs


def test_T3_no_timer_reads_a_clock_of_its_own() -> None:
    """Whatever decides is given `now` and `sleep`; those that are not say why."""
    call = re.compile(r"\btime\.(?:sleep|time|time_ns|monotonic|perf_counter)\(")
    allowed = {
        "cli.py",  # the pause between two looks of `watch`
        "operations.py",  # the date in the record of breaks
        "backends/memory.py",  # where fences begin
        "backends/sql/exchange.py",  # milliseconds between two tries at a database, in its driver's thread
        "backends/sql/rows.py",  # the same
        "backends/zookeeper/backend.py",  # the age of a holder, for the eye
    }
    package = Path(backstay.locks.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if call.search(path.read_text(encoding="utf-8"))
    }
    assert found == allowed
