"""The mutex under seeded faults: two valid leases never, a fence never twice, nothing left behind; and proof that the
simulator would notice (planted bugs)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator

import pytest

from backstay.locks.backends.redis import backend as redis_backend
from backstay.locks.leases import lease, protocol, waiting
from backstay.locks.leases.renewal import Batch
from backstay.simulation import Network, World
from stateful.locks.simulated import Client, Server, left_behind, simulate


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Losses and unanswered renewals are what these runs are made of: thousands of warnings."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("block", range(4))
def test_C5_F1_R5_no_two_valid_leases_whatever_fails(block: int) -> None:
    won = lost = 0
    for seed in range(block * 300, block * 300 + 300):
        _, server, clients = simulate(seed)
        won += sum(len(client.won) for client in clients)
        lost += sum(client.lost for client in clients)
        assert left_behind(server) == [], f"seed {seed}"
    assert won > 600, "the runs are too short or too broken to show anything"
    assert lost > 0, "nothing was ever lost: the faults do not bite"


def test_Q5_W1_without_faults_everybody_gets_it_in_no_time() -> None:
    for seed in range(150):
        world, server, clients = simulate(seed, faults=False)
        assert [len(client.won) for client in clients] == [3, 3, 3, 3], f"seed {seed}"
        # 12 holds of at most 20 ms; a missed wake-up would cost a beat of 2 s.
        assert world.time - 90.0 < 0.6, f"seed {seed}: somebody slept through a hand-over"
        assert left_behind(server) == [], f"seed {seed}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_C5_no_two_valid_leases_in_30000_runs() -> None:
    for seed in range(10_000, 40_000):
        _, server, _ = simulate(seed)
        assert left_behind(server) == [], f"seed {seed}"


@pytest.mark.parametrize("clients", [2, 4])
def test_C9_O7_cancelled_at_any_moment_leaves_nothing_behind(clients: int) -> None:
    """Nothing is lost here, only late and overtaken; the ttl is longer than the run, so no expiry tidies up."""
    cancelled = 0
    for seed in range(250):
        world = World(seed, network=Network(delay=(0.0001, 0.02), long_delays=0.1, long_delay=(0.05, 0.6)))
        server = Server(world)
        everybody = [Client(world, server, f"c{n}", offset=0.0, rate=1.0, resend=0.0) for n in range(clients)]
        for client in everybody:
            task = world.start(client.host, client.rounds(2, ttl=600.0, wait=30.0, hold=0.05), name="rounds")
            if world.random.random() < 0.7:
                cancelled += 1
                world.at(world.random.uniform(0.0, 0.6), task.cancel)
        world.run(settle=10.0)
        assert left_behind(server) == [], f"seed {seed}: {server.redis.data}"
        assert all(not client.believes() for client in everybody), f"seed {seed}"
        assert all(not client.mailbox.letters for client in everybody), f"seed {seed}"
    assert cancelled > 200


Patch = Callable[[pytest.MonkeyPatch], None]


def _script(name: str, old: str, new: str) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        script = getattr(redis_backend, name)
        assert script.text.count(old) == 1, f"{name} has changed: plant the bug anew"
        monkeypatch.setattr(redis_backend, name, dataclasses.replace(script, text=script.text.replace(old, new)))

    return patch


def _deadline_from_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    class LateGrant(lease.Grant):
        __slots__ = ()

        def valid(self, now: float) -> bool:
            if self.failures == 0:  # first looked at when the answer has come
                self.failures = -1
                self.deadline = max(self.deadline, lease.deadline(now, self.ttl))
            return super().valid(now)

    monkeypatch.setattr(protocol, "Grant", LateGrant)


def _renewal_from_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Batch._renewed
    monkeypatch.setattr(
        Batch, "_renewed", lambda self, grant, answer, sent: right(self, grant, answer, self._runtime.now())
    )


def _handed_over_at_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "started", lambda queued, queued_there, granted_there, received: received)


PLANTED = {
    "release without comparing the token": (
        _script("RELEASE", "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n  return 0\nend\n", ""),
        60,
    ),
    "deadline from the reply's time": (_deadline_from_the_reply, 400),
    "renewal deadline from the reply's time": (_renewal_from_the_reply, 400),
    "hand-over deadline from receipt": (_handed_over_at_receipt, 300),
    "retry does not restart the ttl": (_script("TAKE", "redis.call('PEXPIRE', KEYS[1], ARGV[2])", ""), 100),
    "fence outside the grant": (
        _script(
            "TAKE",
            "  local fence = draw(clock())\n",
            "  local fence = redis.call('GET', KEYS[2]) or draw(clock())\n",
        ),
        20,
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_simulator_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, seeds = PLANTED[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError) as found:  # which of the seeds finds it is not known
        for seed in range(seeds):
            simulate(seed, hold=0.8 if "renewal" in bug else 0.2)  # only long holds are renewed
    text = str(found.value)
    assert "valid" in text or text.startswith("["), text  # an invariant of the locks, not a broken simulation


def test_W1_the_simulator_finds_a_missing_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that subscribes and then waits, without taking again, sleeps through the release in between."""
    right = waiting.Waiter._look

    async def subscribe_only(self: waiting.Waiter, last: object) -> object:
        if self.letter is None:
            await self._backend.open(1.0)
            self.letter = self._backend.letter(self._token)
            self.queued_at = self.sent
            return last
        return await right(self, last)  # type: ignore[arg-type]

    monkeypatch.setattr(waiting.Waiter, "_look", subscribe_only)
    slow = 0
    for seed in range(20):
        world, _, _ = simulate(seed, faults=False)
        slow += world.time - 90.0 >= 0.6
    assert slow == 20


def test_T4_clocks_that_differ_by_more_than_promised_are_noticed() -> None:
    """The margin is a rate: at five times the promised error two leases must be seen to overlap somewhere."""
    with pytest.raises(AssertionError, match="valid"):
        for seed in range(600):
            simulate(seed, rate_error=0.05)


def test_C9_the_simulator_finds_a_missing_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    _script("TAKE", "return 'withdrawn'", "")(monkeypatch)
    with pytest.raises(AssertionError, match="owner"):
        test_C9_O7_cancelled_at_any_moment_leaves_nothing_behind(2)
