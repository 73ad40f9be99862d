"""What locks count, by recipe: waits, holds, contention, losses with their reasons, late renewals, breaks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from backstay import telemetry
from backstay.errors import NotAcquired
from backstay.locks import Locks
from backstay.locks.claims import KINDS
from backstay.locks.telemetry import REASONS, Meters
from backstay.testing.telemetry import Measured, measured


@pytest.fixture
def space() -> str:
    return f"counted-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def locks(space: str) -> Iterator[Locks]:
    with Locks.connect(f"memory://{space}", namespace="counted") as made:
        yield made


def count(seen: Measured, name: str, **attributes: str) -> float:
    return seen.count(name, backend="memory", resource="counted", **attributes)


def test_each_recipe_counts_for_itself(locks: Locks) -> None:
    with measured() as seen:
        with locks.mutex("x"):
            pass
        with locks.read_write("x").read(), locks.semaphore("x", permits=2), locks.segmented("x", segments=4).whole():
            pass
    for kind in KINDS:
        assert count(seen, "lock.acquisitions", result="acquired", recipe=kind) == 1, kind
        assert count(seen, "lock.wait.duration", recipe=kind) == 1, kind
        assert count(seen, "lock.hold.duration", recipe=kind) == 1, kind


def test_contention_counts_whoever_found_it_held_and_nobody_else(locks: Locks) -> None:
    with measured() as seen:
        with locks.mutex("x"), pytest.raises(NotAcquired):
            locks.mutex("x", wait=0.0).acquire()
        lease = locks.mutex("x").acquire()
        waits = threading.Thread(target=lambda: locks.mutex("x", wait=30.0).acquire().release())
        waits.start()
        while not locks.inspect("x").waiters:
            assert waits.is_alive()
        lease.release()
        waits.join(30.0)
    assert count(seen, "lock.contentions", recipe="lock") == 2
    assert count(seen, "lock.acquisitions", recipe="lock", result="acquired") == 3
    assert count(seen, "lock.acquisitions", recipe="lock", result="not_acquired") == 1


def test_losses_have_their_reasons(space: str) -> None:
    with measured() as seen:
        with Locks.connect(f"memory://{space}", namespace="counted") as locks:
            expired = locks.mutex("expired", ttl=0.02, renew=False).acquire()
            capped = locks.mutex("capped", max_hold=0.02).acquire()
            broken = locks.mutex("broken").acquire()
            assert locks.break_lock("broken", by="a test", reason="to see it counted")
            for lease in (expired, capped):
                assert lease.lost.wait(30.0)
            with pytest.raises(Exception, match="owned by another or was freed"):
                broken.release()
            kept = locks.mutex("kept").acquire()
        assert kept.lost.wait(30.0)
    assert {reason: count(seen, "lock.losses", reason=reason, recipe="lock") for reason in REASONS} == {
        "expired": 1,
        "max_hold": 1,
        "taken": 1,
        "closed": 1,
        "session": 0,
    }
    assert count(seen, "lock.breaks", recipe="lock") == 1


def test_a_recipe_that_is_not_used_has_no_series() -> None:
    meters = Meters("memory", uuid.uuid4().hex)
    assert not meters
    assert meters["semaphore"] is meters["semaphore"]
    assert set(meters) == {"semaphore"}


def test_attributes_are_few_and_hold_no_name_token_or_holder(locks: Locks) -> None:
    secret = uuid.uuid4().hex
    with locks.mutex(secret) as lease:
        token = locks.inspect(secret).holders[0].token
        assert lease.fence > 0
    ours = [reading for reading in telemetry.snapshot() if reading.name.startswith("backstay.lock.")]
    assert {key for reading in ours for key, _ in reading.attributes} == {
        "backstay.backend",
        "backstay.resource",
        "backstay.recipe",
        "backstay.result",
        "backstay.reason",
    }
    assert {value for reading in ours for key, value in reading.attributes if key == "backstay.recipe"} <= KINDS
    assert secret not in repr(ours)
    assert token not in repr(ours)
