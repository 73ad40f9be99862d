"""The protocol's answers to lost, late and repeated requests, in virtual time and with the shipped scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import LockLost
from backstay.locks.leases.lease import Grant, State, deadline
from stateful.locks.scripted import Bench, BenchClient, alone
from stateful.locks.simulated import STEM, left_behind


def owners(bench: Bench) -> list[str]:
    return [key for key in bench.server.redis.living() if key.endswith(":owner")]


def test_C4_deadline_is_taken_before_sending() -> None:
    async def work(client: BenchClient) -> tuple[float, float, Grant]:
        before = client.host.now()
        grant = await client.acquire(ttl=5.0)
        return before, client.host.now(), grant

    (before, after, grant), _ = alone(work)
    assert after - before >= 0.002
    assert grant.deadline == deadline(before, 5.0)


def test_C2_nothing_sent_is_unavailable_and_sent_unanswered_is_unknown() -> None:
    async def work(client: BenchClient) -> None:
        client.wire.plan["take"] = ["refuse"]
        with pytest.raises(Unavailable):
            await client.acquire()
        client.wire.plan["take"] = ["lose reply"]
        with pytest.raises(OutcomeUnknown) as unknown:
            await client.acquire()
        assert unknown.value.ask["lock"] == "x"
        token = unknown.value.ask["token"]
        assert client.wire._server.redis.live(f"backstay:sim:{{x}}:gone:{token}") is None
        await client.host.sleep(0.1)
        assert client.wire._server.redis.live("backstay:sim:{x}:owner") is None, "withdrawn behind the caller"

    alone(work)


def test_C9_Q4_an_unanswered_acquire_is_withdrawn_until_the_store_answers() -> None:
    bench = Bench()
    client, other = bench.client(), bench.client()

    async def unlucky() -> None:
        client.wire.plan["take"] = ["lose reply"]
        client.wire.plan["withdraw"] = ["refuse", "lose request", "refuse"]
        with pytest.raises(OutcomeUnknown):
            await client.acquire(ttl=600.0)

    async def patient() -> Grant:
        return await other.acquire(ttl=600.0, wait=300.0)

    _, grant = bench.run((client, unlucky()), (other, patient()))
    assert grant.valid(other.host.now())
    assert bench.world.time < 120.0, "long before the ttl of 600 s"
    assert client.wire.count("withdraw") == 4


def test_R5_a_lost_reply_is_retried_with_the_same_token_fence_and_a_fresh_ttl() -> None:
    async def work(client: BenchClient) -> tuple[Grant, int]:
        client.wire.plan["take"] = ["lose reply", "lose reply"]
        grant = await client.acquire(ttl=10.0, wait=5.0)
        redis = client.wire._server.redis
        assert redis.live("backstay:sim:{x}:owner") == f"{grant.token}|{grant.fence}"
        return grant, len(redis.grants)

    (grant, grants), client = alone(work)
    assert grants == 1, "a retry must not be a second grant"
    sent = [when for when, name in client.wire.sent if name == "take"][-1]
    assert grant.deadline == pytest.approx(deadline(sent, 10.0))
    ends = client.wire._server.redis.ends["backstay:sim:{x}:owner"] / 1000.0
    assert ends >= sent + 10.0, "the server counts from the retry as well, or it would end before the holder"


def test_C8_the_wait_bounds_everything_even_where_nothing_answers() -> None:
    for fates in (["lose request"] * 99, ["refuse"] * 99, ["hang"] * 99):
        for wait in (0.0, 0.3, 2.5):

            async def work(client: BenchClient, wait: float = wait, fates: list[str] = fates) -> float:
                client.wire.plan = {name: list(fates) for name in ("take", "withdraw")}
                if fates[0] == "hang":
                    client.wire.plan = {name: ["lose request"] * 99 for name in ("take", "withdraw")}
                start = client.host.now()
                with pytest.raises((Unavailable, OutcomeUnknown)):
                    await client.acquire(wait=wait)
                return client.host.now() - start

            took, _ = alone(work)
            assert took <= max(wait, 1.0) + 0.05, (fates[0], wait, took)  # one attempt may take the patience of 1 s


def test_C8_wait_zero_sends_one_attempt() -> None:
    bench = Bench()
    holder, other = bench.client(), bench.client()

    async def hold() -> None:
        await holder.acquire(ttl=60.0)

    async def try_once() -> None:
        await other.host.sleep(0.1)
        with pytest.raises(NotAcquired):
            await other.acquire(wait=0.0)

    bench.run((holder, hold()), (other, try_once()))
    assert [name for _, name in other.wire.sent] == ["take"]


def test_R6_R4_an_unanswered_release_can_be_repeated() -> None:
    async def work(client: BenchClient) -> Grant:
        grant = await client.acquire()
        client.wire.plan["release"] = ["lose reply", "lose request", "refuse"]
        for error in (OutcomeUnknown, OutcomeUnknown, Unavailable):
            with pytest.raises(error):
                await client.protocol.release(grant)
            assert grant.state is State.RELEASING
            assert not grant.valid(client.host.now())
        await client.protocol.release(grant)
        return grant

    grant, client = alone(work)
    assert grant.state is State.RELEASED
    assert all(lost.n == 0 for lost in client.protocol.meters["lock"].lost.values())


def test_R4_a_release_that_the_wire_sent_twice_is_a_success() -> None:
    async def work(client: BenchClient) -> Grant:
        grant = await client.acquire()
        client.wire.plan["release"] = ["resend"]
        await client.protocol.release(grant)
        return grant

    grant, _ = alone(work)
    assert grant.state is State.RELEASED


def test_R4_not_owner_on_the_only_copy_is_a_loss() -> None:
    async def work(client: BenchClient) -> None:
        grant = await client.acquire()
        client.wire._server.redis.flush()
        with pytest.raises(LockLost, match="owned by another or was freed") as lost:
            await client.protocol.release(grant)
        assert lost.value.reason == "taken"

    alone(work)


def test_R3_a_repeated_release_never_frees_the_next_holder() -> None:
    bench = Bench()
    first, second = bench.client(), bench.client()

    async def one() -> None:
        grant = await first.acquire()
        await first.host.sleep(0.1)
        first.wire.plan["release"] = ["lose reply"]
        with pytest.raises(OutcomeUnknown):
            await first.protocol.release(grant)
        await first.host.sleep(0.1)
        await first.protocol.release(grant)

    async def two() -> Grant:
        await second.host.sleep(0.05)
        grant = await second.acquire(wait=5.0)
        await second.host.sleep(0.5)
        assert grant.valid(second.host.now())
        assert bench.server.redis.live("backstay:sim:{x}:owner") == f"{grant.token}|{grant.fence}"
        return grant

    bench.run((first, one()), (second, two()))


def test_leaving_a_block_hands_an_unanswered_release_to_the_keeper() -> None:
    async def work(client: BenchClient) -> object:
        grant = await client.acquire(ttl=60.0)
        client.wire.plan["release"] = ["lose request"]
        client.wire.plan["withdraw"] = ["refuse"]
        loss = await client.protocol.leave(grant)
        await client.host.sleep(10.0)
        assert client.wire._server.redis.live("backstay:sim:{x}:owner") is None
        return loss

    loss, _ = alone(work)
    assert loss is None


def test_a_lock_that_somebody_made_persistent_cannot_be_extended() -> None:
    async def work(client: BenchClient) -> None:
        grant = await client.acquire(renew=False)
        client.wire._server.redis.ends.pop("backstay:sim:{x}:owner")
        with pytest.raises(Misuse, match="PERSIST"):
            await client.protocol.extend(grant, 5.0)

    alone(work)


def test_W1_the_mailbox_is_confirmed_before_the_lock_is_tried_again() -> None:
    bench = Bench()
    holder, other = bench.client(), bench.client()

    async def hold() -> None:
        grant = await holder.acquire()
        await holder.host.sleep(1.0)
        await holder.protocol.release(grant)

    async def wait() -> float:
        await other.host.sleep(0.5)
        await other.acquire(wait=5.0)
        return other.host.now()

    _, got = bench.run((holder, hold()), (other, wait()))
    assert got < 1.01
    assert [name for _, name in other.wire.sent] == ["take", "take"]


def test_W2_a_waiter_looks_again_when_the_dead_holders_lease_has_ended() -> None:
    bench = Bench()
    holder, other = bench.client(), bench.client()

    async def hold() -> None:
        await holder.acquire(ttl=1.5)
        await holder.host.sleep(0.4)

    async def wait() -> float:
        await other.host.sleep(0.1)
        await other.acquire(wait=5.0)
        return other.host.now()

    bench.world.at(0.3, holder.host.crash)
    task = bench.world.start(other.host, wait())
    bench.world.start(holder.host, hold())
    bench.world.run()
    assert 1.5 < task.result() < 1.52


@pytest.mark.parametrize("seed", range(5))
def test_W4_with_every_note_lost_it_is_only_slower(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(seed)
    first, second = bench.client(), bench.client()
    second.mailbox.receive = lambda channel, message: None  # type: ignore[method-assign]

    async def hold() -> None:
        grant = await first.acquire(ttl=30.0)
        await first.host.sleep(1.0)
        await first.protocol.release(grant)

    async def wait() -> tuple[float, Grant]:
        await second.host.sleep(0.1)
        grant = await second.acquire(ttl=30.0, wait=20.0)
        return second.host.now(), grant

    _, (got, grant) = bench.run((first, hold()), (second, wait()))
    assert got < 1.0 + 2.1, "a beat of 2 s later, at most"
    assert len(bench.server.redis.grants) == 2, "the grant that was not heard of is kept, not repeated"
    assert grant.valid(second.host.now())


def test_W6_a_release_calls_one_waiter_only() -> None:
    bench = Bench()
    holder = bench.client()
    waiters = [bench.client() for _ in range(50)]

    async def hold() -> int:
        grant = await holder.acquire(ttl=60.0)
        await holder.host.sleep(1.0)
        before = bench.server.calls
        await holder.protocol.release(grant)
        return before

    async def wait(client: BenchClient, number: int) -> float:
        await client.host.sleep(0.1 + number * 0.001)
        grant = await client.acquire(ttl=60.0, wait=60.0)
        await client.protocol.release(grant)
        return client.host.now()

    work: list[tuple[BenchClient, Coroutine[Any, Any, Any]]] = [(holder, hold())]
    work += [(client, wait(client, number)) for number, client in enumerate(waiters)]
    before, *got = bench.run(*work)
    assert got == sorted(got), "first come, first served"
    assert got[-1] < 1.3, "the queue is drained from hand to hand"
    assert bench.server.calls - before <= 50 + 1


def test_Q2_Q3_killed_waiters_cost_nothing_and_stopped_ones_one_bound() -> None:
    bench = Bench()
    holder, other = bench.client(), bench.client()
    killed = [bench.client() for _ in range(3)]
    stopped = [bench.client() for _ in range(3)]

    async def hold() -> float:
        grant = await holder.acquire(ttl=60.0)
        await holder.host.sleep(1.0)
        await holder.protocol.release(grant)
        return holder.host.now()

    async def wait(client: BenchClient, after: float) -> float:
        await client.host.sleep(after)
        await client.acquire(ttl=4.0, wait=60.0)
        return client.host.now()

    for number, client in enumerate(killed):
        bench.world.start(client.host, wait(client, 0.1 + number * 0.01))
        bench.world.at(0.5, client.kill)
    task = bench.world.start(other.host, wait(other, 0.3))
    released = bench.world.start(holder.host, hold())
    bench.world.run()
    assert task.result() - released.result() < 0.01

    bench = Bench()
    holder, other = bench.client(), bench.client()
    stopped = [bench.client() for _ in range(3)]
    for number, client in enumerate(stopped):
        client.host.begin(wait(client, 0.1 + number * 0.01), "wait")
        bench.world.at(0.5, client.stop)
    task = bench.world.start(other.host, wait(other, 0.3))
    released = bench.world.start(holder.host, hold())
    bench.world.run()
    assert task.result() - released.result() < 5.0 + 4.0, "the alive bound and one ttl, however many are stopped"


def test_C9_O7_cancelled_at_each_await_of_an_acquire() -> None:
    """Cancel after every step in turn: whatever the acquire was doing, the lock is free soon after."""
    for number in range(40):
        bench = Bench()
        holder, other = bench.client(), bench.client()

        async def hold(holder: BenchClient = holder) -> None:
            grant = await holder.acquire(ttl=600.0)
            await holder.host.sleep(0.02)
            await holder.protocol.release(grant)

        async def wait(other: BenchClient = other) -> None:
            await other.host.sleep(0.005)
            grant = await other.acquire(ttl=600.0, wait=60.0)
            await other.protocol.release(grant)

        bench.world.start(holder.host, hold())
        task = bench.world.start(other.host, wait())
        bench.world.at(0.005 + number * 0.0005, task.cancel)
        bench.world.run(settle=1.0)
        with pytest.raises(asyncio.CancelledError):
            task.result()
            raise asyncio.CancelledError  # it had ended before: nothing to see
        assert left_behind(bench.server) == [], number
        assert owners(bench) == [], number
        assert not other.mailbox.letters, number


def test_T2_a_clock_that_skips_ends_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspend the clock has gone on (CLOCK_BOOTTIME), so the lease is over although nothing ran."""

    async def work(client: BenchClient) -> None:
        grant = await client.acquire(ttl=10.0)
        assert grant.valid(client.host.now())
        client.host.offset += 3600.0
        assert not grant.valid(client.host.now())
        with pytest.raises(LockLost):
            await client.protocol.release(grant)

    alone(work)


def test_F3_the_fence_goes_on_after_the_data_set_was_lost() -> None:
    async def work(client: BenchClient) -> list[int]:
        fences = []
        for _ in range(3):
            grant = await client.acquire(renew=False)
            fences.append(grant.fence)
            client.wire._server.redis.flush()
            await client.host.sleep(0.01)
        return fences

    fences, _ = alone(work)
    assert fences == sorted(set(fences))


def test_F3_a_counter_ahead_of_the_clock_still_rises_and_stays_exact() -> None:
    async def work(client: BenchClient) -> int:
        client.wire._server.redis.data["backstay:sim:{x}:fence"] = str(2**53 - 2)
        return (await client.acquire()).fence

    fence, _ = alone(work)
    assert fence == 2**53 - 1


def test_a_note_for_nobody_is_ignored() -> None:
    """The simulator's third find: giving such a grant back frees a lock whose waiter got it by asking again."""
    bench = Bench()
    first, second = bench.client(), bench.client()
    late: list[tuple[str, str]] = []
    right = second.mailbox.receive
    second.mailbox.receive = lambda channel, message: late.append((channel, message))  # type: ignore[method-assign]

    async def hold() -> None:
        grant = await first.acquire(ttl=30.0)
        await first.host.sleep(1.0)
        await first.protocol.release(grant)

    async def wait() -> Grant:
        await second.host.sleep(0.1)
        grant = await second.acquire(ttl=30.0, wait=20.0)
        right(*late[0])
        await second.host.sleep(1.0)
        assert bench.server.redis.live("backstay:sim:{x}:owner") == f"{grant.token}|{grant.fence}"
        return grant

    _, grant = bench.run((first, hold()), (second, wait()))
    assert grant.valid(second.host.now())
    assert STEM.startswith("backstay:sim:")
