"""max_hold, several locks as one, and the hand-over, in virtual time: what the store is asked, and when."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from backstay.blocking import drive
from backstay.errors import NotAcquired, OutcomeUnknown
from backstay.locks import LockLost, Locks
from backstay.locks.claims import MUTEX, Resource
from backstay.locks.leases.hand_over import attached, detached
from backstay.locks.leases.lease import HELD, LOST, Grant, State
from backstay.locks.options import terms
from backstay.locks.recipes.multi import acquire_all, leave_all, release_all
from stateful.locks.scripted import Bench, BenchClient, alone


async def held_at_most(client: BenchClient, max_hold: float, ttl: float = 9.0) -> Grant:
    return await client.protocol.acquire(Resource("x"), MUTEX, ttl, 0.0, True, max_hold)


def test_N7_at_max_hold_renewal_stops_and_the_loss_is_announced() -> None:
    async def work(client: BenchClient) -> tuple[Grant, list[float], float]:
        told: list[float] = []
        grant = await held_at_most(client, 20.0)
        grant.notice = lambda: told.append(client.host.now())
        began = client.host.now()
        await client.host.sleep(60.0)
        return grant, told, began

    (grant, told, began), client = alone(work)
    assert (grant.state, grant.reason) == (LOST, "max_hold")
    assert len(told) == 1
    assert 19.9 < told[0] - began < 20.1
    assert client.wire.count("renew") in (6, 7)
    assert max(when for when, name in client.wire.sent if name == "renew") < told[0]


def test_N7_validity_is_computed_and_the_error_says_why() -> None:
    async def work(client: BenchClient) -> None:
        grant = await held_at_most(client, 2.0)
        assert grant.deadline == grant.since + 2.0
        assert grant.valid(grant.since + 1.999)
        assert not grant.valid(grant.since + 2.0)
        error = grant.lost(grant.since + 2.0)
        assert error.reason == "max_hold"
        assert "as long as max_hold allows" in str(error)
        await client.protocol.extend(grant, 500.0)
        assert grant.deadline == grant.since + 2.0  # extending moves it no further

    alone(work)


def test_N7_a_lease_that_is_not_renewed_ends_by_its_ttl_first() -> None:
    async def work(client: BenchClient) -> Grant:
        grant = await client.protocol.acquire(Resource("x"), MUTEX, 3.0, 0.0, False, 20.0)
        await client.host.sleep(5.0)
        return grant

    grant, _ = alone(work)
    assert (grant.state, grant.reason) == (LOST, "expired")


def test_N7_leaving_after_max_hold_frees_the_lock_before_its_ttl() -> None:
    async def work(client: BenchClient) -> None:
        grant = await held_at_most(client, 2.0, ttl=900.0)
        await client.host.sleep(3.0)
        with pytest.raises(NotAcquired):  # it stands at the store, so that the holder has time to stop
            await client.acquire("x")
        with pytest.raises(LockLost, match="max_hold"):
            await client.protocol.release(grant)
        later = await client.acquire("x", wait=2.0)
        assert later.fence > grant.fence

    alone(work)


def test_M1_names_are_taken_in_the_order_given_and_released_in_reverse() -> None:
    async def work(client: BenchClient) -> list[str]:
        grants = await acquire_all(client.protocol, ("a", "b", "c"), terms())
        await release_all(client.protocol, grants)
        return [name for _, name in client.wire.sent]

    sent, _ = alone(work)
    assert sent == ["take"] * 3 + ["release"] * 3


def test_M1_one_deadline_for_the_whole() -> None:
    bench = Bench()
    one, other = bench.client(), bench.client()

    async def holder() -> None:
        first, second = await one.acquire("a", ttl=60.0), await one.acquire("b", ttl=60.0)
        await one.host.sleep(3.0)
        await one.protocol.release(first)
        await one.host.sleep(30.0)
        await one.protocol.release(second)

    async def waiter() -> float:
        await other.host.sleep(0.5)
        began = other.host.now()
        with pytest.raises(NotAcquired, match="'b'"):
            await acquire_all(other.protocol, ("a", "b"), terms(wait=5.0))
        spent = other.host.now() - began
        await other.protocol.release(await other.acquire("a"))  # it was given back
        return spent

    _, spent = bench.run((one, holder()), (other, waiter()))
    assert 4.9 < spent < 5.2


def test_M1_one_lost_lock_ends_the_whole_and_the_others_are_given_back() -> None:
    with Locks.connect(f"memory://{uuid.uuid4().hex}") as locks:
        with pytest.raises(LockLost, match="'b'"):
            with locks.multi("a", "b") as lease:
                drive(locks._protocol.backend.withdraw(Resource("b"), lease._grants[1].token, False, 1.0))
                with pytest.raises(LockLost, match="'b'"):
                    lease.extend()
                assert not lease.is_valid()
                assert lease.remaining() == 0.0
                assert lease.lost.is_set()
                with pytest.raises(LockLost, match="'b'"):
                    lease.check()
        locks.multi("a", "b", wait=0.0).acquire().release()


def test_M3_rolling_back_goes_on_if_one_release_fails_and_says_so() -> None:
    bench = Bench()
    one, other = bench.client(), bench.client()

    async def holder() -> None:
        await one.acquire("d", ttl=900.0)

    async def taker() -> list[str]:
        await other.host.sleep(0.5)
        other.wire.plan["release"] = ["lose request", "ok", "refuse"]
        with pytest.raises(NotAcquired, match="'d'"):
            await acquire_all(other.protocol, ("a", "b", "c", "d"), terms(wait=0.0))
        await other.host.sleep(3.0)  # the keeper goes on with those that failed
        for name in "abc":
            await other.protocol.release(await other.acquire(name))
        return [name for _, name in other.wire.sent]

    _, sent = bench.run((one, holder()), (other, taker()))
    assert sent.count("release") == 6


def test_M3_a_failure_of_the_store_itself_is_reported_and_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    one, other = bench.client(), bench.client()

    async def holder() -> None:
        await one.acquire("c", ttl=900.0)

    async def taker() -> list[str]:
        await other.host.sleep(0.5)
        leave = type(other.protocol).leave

        async def failing(protocol: Any, grant: Grant) -> LockLost | None:
            if grant.resource.name == "b":
                raise RuntimeError("a fault of the store")
            return await leave(protocol, grant)

        monkeypatch.setattr(type(other.protocol), "leave", failing)
        with pytest.raises(NotAcquired) as refused:
            await acquire_all(other.protocol, ("a", "b", "c"), terms(wait=0.0))
        await other.protocol.release(await other.acquire("a"))
        return list(refused.value.__notes__)

    _, notes = bench.run((one, holder()), (other, taker()))
    assert notes == ["and giving back lock 'b': a fault of the store"]


def test_M3_releasing_goes_on_if_one_fails_and_may_be_called_again() -> None:
    async def work(client: BenchClient) -> None:
        grants = await acquire_all(client.protocol, ("a", "b", "c"), terms())
        client.wire.plan["release"] = ["ok", "lose request"]
        with pytest.raises(OutcomeUnknown):
            await release_all(client.protocol, grants)
        assert [grant.state for grant in grants] == [State.RELEASED, State.RELEASING, State.RELEASED]
        await release_all(client.protocol, grants)
        assert all(grant.state is State.RELEASED for grant in grants)

    alone(work)


def test_M1_a_lock_lost_while_another_was_waited_for_loses_the_whole() -> None:
    bench = Bench()
    one, other = bench.client(), bench.client()

    async def holder() -> None:
        grant = await one.acquire("b", ttl=60.0)
        await one.host.sleep(8.0)
        await one.protocol.release(grant)

    async def taker() -> str:
        await other.host.sleep(0.5)
        with pytest.raises(LockLost) as lost:
            await acquire_all(other.protocol, ("a", "b"), terms(ttl=3.0, wait=20.0, renew=False))
        assert await leave_all(other.protocol, []) is None
        await other.protocol.release(await other.acquire("b"))
        return lost.value.lock

    assert bench.run((one, holder()), (other, taker()))[1] == "a"


def test_O4_no_renewal_of_the_old_side_follows_the_hand_over() -> None:
    async def work(client: BenchClient) -> tuple[float, Grant]:
        grant = await client.acquire("x", ttl=9.0)
        await client.host.sleep(4.0)
        await detached(client.protocol, grant, 30.0)
        over = client.host.now()
        await client.host.sleep(20.0)
        return over, grant

    (over, grant), client = alone(work)
    assert grant.state is State.DETACHED
    assert [when for when, name in client.wire.sent if when > over] == []
    assert client.wire.count("renew") == 2  # one by the keeper, one that gives the way its time


def test_O4_a_hand_over_that_is_not_answered_changes_nothing() -> None:
    async def work(client: BenchClient) -> None:
        grant = await client.acquire("x", ttl=9.0)
        client.wire.plan["renew"] = ["lose reply"]
        with pytest.raises(OutcomeUnknown):
            await detached(client.protocol, grant, 9.0)
        assert grant.state is HELD
        await client.host.sleep(30.0)
        assert grant.valid(client.host.now())

    alone(work)


def test_O4_the_fence_and_the_time_go_on_at_the_other_side() -> None:
    bench = Bench()
    one, other = bench.client(), bench.client()
    texts: list[str] = []

    async def giver() -> Grant:
        grant = await one.acquire("x", ttl=9.0)
        texts.append(await detached(one.protocol, grant, 9.0))
        return grant

    async def taker() -> Grant:
        await other.host.sleep(5.0)
        grant = await attached(other.protocol, texts[0], True)
        assert grant.deadline <= other.host.now() + 9.0
        await other.host.sleep(60.0)
        assert grant.valid(other.host.now())
        await other.protocol.release(grant)
        await other.protocol.release(await other.acquire("x"))
        return grant

    given, taken = bench.run((one, giver()), (other, taker()))
    assert (given.fence, given.token) == (taken.fence, taken.token)
    assert given.state is State.DETACHED


def test_O4_its_deadline_counts_from_before_the_request_was_sent() -> None:
    async def work(client: BenchClient) -> None:
        text = await detached(client.protocol, await client.acquire("x", ttl=9.0), 9.0)
        before = client.host.now()
        grant = await attached(client.protocol, text, False)
        assert client.host.now() > before
        assert grant.deadline == pytest.approx(before + 9.0 * 0.99)

    alone(work)
