"""What the core does otherwise where grants live with a session at the store; in virtual time."""

from __future__ import annotations

import gc
import warnings

import pytest

from backstay.errors import OutcomeUnknown
from backstay.locks.leases.handle import AsyncLease
from backstay.locks.leases.lease import LOST, Grant, deadline
from stateful.locks.scripted import BenchClient, alone

SESSION = 6.0


def bound(client: BenchClient) -> None:
    client.protocol.backend.session = SESSION  # type: ignore[misc]  # the rest is the store of the bench


def test_a_lease_promises_no_more_than_its_session() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        before = client.host.now()
        long, short = await client.acquire("long", ttl=30.0), await client.acquire("short", ttl=2.0)
        assert (long.ttl, short.ttl) == (SESSION, 2.0)
        assert long.deadline == deadline(before, SESSION)
        before = client.host.now()
        await client.protocol.extend(short, 30.0)
        assert short.deadline == deadline(before, SESSION)

    alone(work)


def test_Z4_a_withdrawal_is_asked_for_until_it_is_answered_whatever_the_ttl() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        client.wire.plan = {"take": ["lose reply"], "withdraw": ["refuse"] * 40}
        with pytest.raises(OutcomeUnknown):
            await client.acquire(ttl=0.5)
        await client.host.sleep(60.0)
        assert client.wire.count("withdraw") == 41

    alone(work)


def test_Z6_an_expired_lease_is_withdrawn_since_its_session_may_go_on() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        await client.acquire(ttl=1.0, renew=False)
        await client.host.sleep(2.0)
        assert client.wire.count("withdraw") == 1

    alone(work)


def test_N10_a_dropped_handle_is_withdrawn_since_its_session_goes_on() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        grants: list[Grant] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for number in range(300):  # enough for the heap to be compacted
                grant = await client.acquire(f"n{number}", ttl=6.0)
                if number % 100 == 0:
                    grants.append(grant)
                    AsyncLease(client.protocol, grant, (work.__code__, 1))
                    gc.collect()
                else:
                    await client.protocol.release(grant)
        assert [grant.state for grant in grants] == [LOST] * 3
        await client.host.sleep(3.0)
        assert client.wire.count("withdraw") == 3

    alone(work)


def test_Z6_Z7_a_doubted_lease_is_invalid_until_a_renewal_has_verified_it() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        grant = await client.acquire(ttl=6.0)
        client.protocol.doubted()
        assert not grant.valid(client.host.now())
        assert grant.lost(client.host.now()).reason == "doubted"
        renewals = client.wire.count("renew")
        client.protocol.settled()
        assert not grant.valid(client.host.now()), "a word of the session says nothing of the lease"
        await client.host.sleep(0.2)
        assert client.wire.count("renew") == renewals + 1
        assert grant.valid(client.host.now())

    alone(work)


def test_Z7_verifying_a_lease_that_is_not_renewed_does_not_prolong_it() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        grant = await client.acquire(ttl=3.0, renew=False)
        end = grant.deadline
        client.protocol.doubted()
        client.protocol.settled()
        await client.host.sleep(0.2)
        assert grant.valid(client.host.now())
        assert grant.deadline == end
        await client.host.sleep(3.0)
        assert (grant.state, grant.reason) == (LOST, "expired")
        assert client.wire.count("renew") == 1

    alone(work)


def test_Z7_the_end_of_a_session_is_the_loss_of_all_it_had() -> None:
    async def work(client: BenchClient) -> None:
        bound(client)
        grants = [await client.acquire(name) for name in "abc"]
        client.protocol.ended()
        assert [(grant.state, grant.reason) for grant in grants] == [(LOST, "session")] * 3

    alone(work)
