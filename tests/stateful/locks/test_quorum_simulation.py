"""Independent masters under seeded faults: one valid lease, fences that rise; and proof that bugs would be seen."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backstay.errors import NotAcquired
from backstay.locks.backends.quorum import backend, scripts, votes
from backstay.locks.backends.quorum.backend import QuorumBackend
from backstay.locks.claims import MUTEX
from backstay.locks.leases import lease, protocol
from backstay.simulation import World
from stateful.locks.simulated import LOCK, STEM
from stateful.locks.simulated_quorum import Master, QuorumClient, held_somewhere, simulate_quorum


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Losses and unanswered renewals are what these runs are made of."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("masters", "seeds"), [(3, 300), (5, 120)])
def test_K1_K2_K3_K5_one_valid_lease_and_rising_fences_whatever_a_minority_does(masters: int, seeds: int) -> None:
    won = lost = 0
    for seed in range(seeds):
        _, places, clients, fences = simulate_quorum(seed, masters=masters)
        won += len(fences)
        lost += sum(client.lost for client in clients)
        assert held_somewhere(places) == [], f"seed {seed}"
    assert won > seeds * 2, f"the runs are too short or too broken to show anything: {won}"
    assert lost > 0, "nothing was ever lost: the faults do not bite"


def test_K1_without_fences_there_is_one_valid_lease_as_well() -> None:
    won = sum(len(simulate_quorum(seed, fence=False)[3]) for seed in range(150))
    assert won > 300


def test_K2_without_faults_everybody_gets_it() -> None:
    for seed in range(60):
        world, places, _, won = simulate_quorum(seed, faults=False)
        assert len(won) == 9, f"seed {seed}"
        assert world.time - 10.0 < 5.0, f"seed {seed}: split votes went on for {world.time - 10.0} s"
        assert held_somewhere(places) == []


Patch = Callable[[pytest.MonkeyPatch], None]


def _majority_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "majority", lambda masters: masters // 2)


def _validity_never_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow majority counts, and its time from the answer."""
    right = QuorumBackend.take

    async def take(self: QuorumBackend, *args: Any) -> Any:
        now, self._now = self._now, lambda: 0.0
        try:
            return await right(self, *args)
        finally:
            self._now = now

    class LateGrant(lease.Grant):
        __slots__ = ()

        def valid(self, now: float) -> bool:
            if self.failures == 0:
                self.failures = -1
                self.deadline = max(self.deadline, lease.deadline(now, self.ttl))
            return super().valid(now)

    monkeypatch.setattr(QuorumBackend, "take", take)
    monkeypatch.setattr(protocol, "Grant", LateGrant)


def _fence_not_written_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def confirmed(*args: Any) -> bool:
        return True

    monkeypatch.setattr(QuorumBackend, "_confirmed", confirmed)


def _renewed_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "kept", lambda answers, quorum: votes.kept(answers, 1))


def _script(name: str, old: str, new: str) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        script = getattr(backend, name)
        assert script.text.count(old) == 1, f"{name} has changed: plant the bug anew"
        monkeypatch.setattr(backend, name, dataclasses.replace(script, text=script.text.replace(old, new)))

    return patch


PLANTED: dict[str, tuple[Patch, int]] = {
    "a majority that is none": (_majority_off_by_one, 60),
    "time counted from the answer": (_validity_never_looked_at, 400),
    "the fence not written back": (_fence_not_written_back, 400),
    "a renewal by fewer than a majority": (_renewed_by_one, 600),
    "a lock taken from its owner": (
        _script("TAKE", "if owner and string.sub(owner, 1, #mine) ~= mine then", "if false then"),
        60,
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_simulator_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, seeds = PLANTED[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="two valid leases|fences fell"):
        for seed in range(seeds):
            simulate_quorum(seed, longest=0.8 if "renewal" in bug else 0.3)  # only long holds are renewed


def test_K4_a_master_that_forgot_and_votes_at_once_breaks_it() -> None:
    """The assumption is needed: without the time out two leases or a fallen fence are seen."""
    with pytest.raises(AssertionError, match="two valid leases|fences fell"):
        for seed in range(600):
            simulate_quorum(seed, stays_out=0.0)


def test_K1_what_failed_masters_hold_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that got fewer than a majority leaves nothing: seen where no expiry tidies up."""
    for seed in range(60):
        _, places, _, won = simulate_quorum(seed, faults=False, ttl=2.0, rounds=2)
        assert len(won) == 6
        assert held_somewhere(places) == []

    async def nothing(*args: Any) -> list[int]:
        return []

    monkeypatch.setattr(QuorumBackend, "_give_up", nothing)
    slow = 0
    for seed in range(60):
        world, _, _, won = simulate_quorum(seed, faults=False, ttl=2.0, rounds=2)
        slow += world.time - 10.0 > 1.9 or len(won) < 6
    assert slow > 0, "attempts that failed kept what they had, and nobody noticed"


def test_K1_a_minority_that_granted_is_given_back_before_the_refusal() -> None:
    world = World(1)
    masters = [Master(world, number, 1e9, 1.0) for number in range(3)]
    client = QuorumClient(world, masters, "c", offset=0.0, rate=1.0, resend=0.0, fence=True)
    for master in masters[:2]:
        master.redis.data[STEM + "owner"] = "another|1"
    work = world.start(client.host, client.protocol.acquire(LOCK, MUTEX, 2.0, 0.0, True))
    world.run(settle=0.5)
    with pytest.raises(NotAcquired, match="another"):
        work.result()
    assert held_somewhere(masters) == ["another|1", "another|1"]


def test_K3_a_renewal_makes_no_lock_anew_and_outlives_what_a_failed_attempt_sends_late() -> None:
    world = World(1)
    master = Master(world, 0, 1e9, 1.0)
    owner, gone, token = STEM + "owner", STEM + "gone:t", "t"

    def run(name: str, keys: list[str], *arguments: str | int) -> Any:
        return master.run(getattr(scripts, name), keys, arguments)

    assert run("RENEW", [owner], token, 1000, scripts.LAST) == 0
    assert held_somewhere([master]) == []
    run("TAKE", [owner, STEM + "fence", gone], token, 1, 1000, "fence")
    assert run("RENEW", [owner], token, 1000, scripts.LAST) == 1
    assert run("GIVE_BACK", [owner, gone], token, 1, 0) == 0, "it counted for the renewal, so it must stay"
    assert run("GIVE_BACK", [owner, gone], token, scripts.LAST, 60_000) == 1
    assert run("TAKE", [owner, STEM + "fence", gone], token, 2, 1000, "fence") == b"withdrawn"
    assert held_somewhere([master]) == []
