"""The keeper, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from backstay.locks.claims import Resource
from backstay.locks.leases.keeper import LINGER, SPARE
from backstay.locks.leases.lease import HELD, LOST, Grant, State, deadline
from stateful.locks.scripted import Bench, BenchClient, alone


def test_the_keeper_trap_short_holds_wake_it_a_handful_of_times_only() -> None:
    async def work(client: BenchClient) -> tuple[int, int]:
        highest = 0
        for _ in range(10_000):
            grant = Grant(Resource("x"), "t", 7, 10.0, client.host.now() + 9.9, client.host.now(), True)
            client.keeper.watch(client.protocol, grant, client.host.now())
            client.keeper.forget(grant)
            highest = max(highest, client.keeper.entries)
            await client.host.sleep(0.0001)
        return client.keeper.wakes, highest

    (wakes, highest), _ = alone(work)
    assert wakes <= 3
    assert highest <= 4 * SPARE, "closed entries pile up in the heap"


def test_N1_one_worker_renews_each_at_a_third_of_its_ttl() -> None:
    async def work(client: BenchClient) -> None:
        grants = [await client.acquire(f"n{number}", ttl=9.0) for number in range(20)]
        await client.host.sleep(60.0)
        assert all(grant.valid(client.host.now()) for grant in grants)

    _, client = alone(work)
    renewals = client.wire.count("renew")
    assert 20 * 60 / 3.0 * 0.9 <= renewals <= 20 * 60 / 2.7 * 1.1
    assert client.protocol.meters["lock"].renewed.n == renewals


def test_C4_a_renewal_counts_from_before_it_was_sent() -> None:
    async def work(client: BenchClient) -> Grant:
        grant = await client.acquire(ttl=9.0)
        await client.host.sleep(4.0)
        return grant

    grant, client = alone(work)
    (sent,) = [when for when, name in client.wire.sent if name == "renew"]
    assert grant.deadline == deadline(sent, 9.0)


def test_N2_failed_renewals_are_retried_until_one_succeeds() -> None:
    async def work(client: BenchClient) -> Grant:
        client.wire.plan["renew"] = ["refuse", "lose request", "lose reply", "refuse"]
        grant = await client.acquire(ttl=9.0)
        await client.host.sleep(30.0)
        assert grant.valid(client.host.now())
        return grant

    grant, client = alone(work)
    assert grant.state is HELD
    assert client.protocol.meters["lock"].not_renewed.n == 4


def test_N2_an_error_that_nobody_expected_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def work(client: BenchClient) -> None:
        right, calls = client.protocol.backend.renew, 0

        async def wrong_once(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ZeroDivisionError("a bug in a backend")
            return await right(*args)

        client.protocol.backend.renew = wrong_once  # type: ignore[method-assign,assignment]
        grant = await client.acquire(ttl=9.0)
        await client.host.sleep(30.0)
        assert grant.valid(client.host.now())

    with caplog.at_level(logging.ERROR):
        alone(work)
    assert "ZeroDivisionError" in caplog.text


def test_N2_a_listener_that_fails_delays_nobody(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def work(client: BenchClient) -> None:
        for number in range(3):
            grant = await client.acquire(f"n{number}", ttl=1.0, renew=False)

            def notice(number: int = number) -> None:
                told.append(f"n{number}")
                raise RuntimeError("a listener's own trouble")

            grant.notice = notice
        await client.host.sleep(5.0)

    alone(work)
    assert sorted(told) == ["n0", "n1", "n2"]


def test_N3_not_owner_is_announced_at_once() -> None:
    async def work(client: BenchClient) -> tuple[Grant, float]:
        grant = await client.acquire(ttl=9.0)
        when: list[float] = []
        grant.notice = lambda: when.append(client.host.now())
        client.wire._server.redis.flush()
        await client.host.sleep(9.0)
        return grant, when[0]

    (grant, when), _ = alone(work)
    assert (grant.state, grant.reason) == (LOST, "taken")
    assert when < 3.1, "known at the first renewal, not at the deadline"


@pytest.mark.parametrize("fate", ["refuse", "lose request", "hang"])
def test_N3_C5_without_an_answer_the_loss_is_announced_at_the_deadline_before_the_server_frees(fate: str) -> None:
    bench = Bench()
    client = bench.client(patience=100.0 if fate == "hang" else 1.0)
    seen: list[tuple[float, bool]] = []

    async def work() -> Grant:
        client.wire.plan["renew"] = [fate] * 50
        grant = await client.acquire(ttl=9.0)
        grant.notice = lambda: seen.append((client.host.now(), bool(bench.server.redis.living())))
        await client.host.sleep(20.0)
        return grant

    (grant,) = bench.run((client, work()))
    assert (grant.state, grant.reason) == (LOST, "expired")
    assert len(seen) == 1
    assert 8.9 < seen[0][0] <= 9.0 * 0.99 + 0.01
    assert seen[0][1], "the server still held it when the holder was told"


def test_N4_a_release_waits_for_the_renewal_under_way() -> None:
    bench = Bench()
    client = bench.client()

    async def work() -> Grant:
        grant = await client.acquire(ttl=0.9)
        while grant.renewing is None:
            await client.host.sleep(0.0005)
        await client.protocol.release(grant)
        return grant

    (grant,) = bench.run((client, work()), settle=5.0)
    assert grant.state is State.RELEASED
    assert [name for _, name in client.wire.sent] == ["take", "renew", "release"], "nothing follows the release"
    release = next(when for when, name in client.wire.sent if name == "release")
    renew = next(when for when, name in client.wire.sent if name == "renew")
    assert release >= renew + 0.002, "the release left before the renewal was answered"


def test_N4_no_renewal_after_a_release() -> None:
    async def work(client: BenchClient) -> None:
        for _ in range(50):
            grant = await client.acquire(ttl=0.5)
            await client.host.sleep(0.1)
            await client.protocol.release(grant)
        await client.host.sleep(5.0)

    _, client = alone(work)
    assert client.wire.count("renew") == 0
    assert all(lost.n == 0 for lost in client.protocol.meters["lock"].lost.values())


def test_N9_each_lease_keeps_its_own_ttl() -> None:
    async def work(client: BenchClient) -> tuple[Grant, Grant]:
        short, long = await client.acquire("a", ttl=3.0), await client.acquire("b", ttl=30.0)
        await client.host.sleep(12.0)
        return short, long

    (short, long), client = alone(work)
    assert short.deadline - client.host.now() <= 3.0
    assert long.deadline - client.host.now() > 15.0


def test_N8_lateness_of_renewals_is_measured() -> None:
    bench = Bench()
    client = bench.client()

    async def work() -> None:
        await client.acquire(ttl=30.0)
        bench.world.at(9.5, lambda: client.host.stall(4.0))  # as a blocked loop or a long C call does (N8)
        await client.host.sleep(25.0)

    before = client.protocol.meters["lock"].lateness.sum
    bench.run((client, work()))
    assert client.protocol.meters["lock"].lateness.sum - before > 1.0


def test_an_idle_keeper_ends_and_another_lease_starts_it_again() -> None:
    async def work(client: BenchClient) -> None:
        await client.protocol.release(await client.acquire(ttl=1.0))
        assert client.keeper.is_alive()
        await client.host.sleep(2 * LINGER + 2.0)
        assert not client.keeper.is_alive()
        grant = await client.acquire(ttl=1.0)
        assert client.keeper.is_alive()
        await client.host.sleep(3.0)
        assert grant.valid(client.host.now())

    alone(work)


def test_N5_a_lease_without_a_keeper_is_not_given_out() -> None:
    """Where no thread can be started nobody would renew: the acquire fails and leaves nothing behind."""

    async def work(client: BenchClient) -> list[str]:
        right: Callable[..., Any] = client.host.spawn

        def no_threads(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("can't start new thread")

        client.host.spawn = no_threads  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            await client.acquire()
        client.host.spawn = right  # type: ignore[method-assign]
        left = client.wire._server.owner
        await client.acquire("y")
        assert client.keeper.is_alive()
        return [left]

    (left,), _ = alone(work)
    assert left == ""


def test_renewals_are_put_off_where_no_thread_can_be_started(caplog: pytest.LogCaptureFixture) -> None:
    async def work(client: BenchClient) -> None:
        right: Callable[..., Any] = client.host.spawn
        failed = 0

        def sometimes(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed
            if kwargs["name"] == "backstay-locks-renewal" and failed < 3:
                failed += 1
                raise RuntimeError("can't start new thread")
            return right(*args, **kwargs)

        client.host.spawn = sometimes  # type: ignore[method-assign]
        grant = await client.acquire(ttl=9.0)
        await client.host.sleep(20.0)
        assert grant.valid(client.host.now())
        assert failed == 3

    alone(work)
    assert "put off" in caplog.text
