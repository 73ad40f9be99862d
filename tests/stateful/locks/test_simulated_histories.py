"""What the simulator plays is recorded and judged as well: its own invariants and the checker must agree."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from backstay.locks.claims import Claim, Resource
from backstay.locks.leases.lease import Grant
from backstay.locks.leases.protocol import LeaseProtocol
from backstay.testing.history import Attempt, History
from backstay.testing.linearizability import check
from stateful.locks import simulated
from stateful.locks.simulated import simulate
from stateful.locks.test_simulation import PLANTED


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


class Recorded(LeaseProtocol):
    """The shipped protocol, whose callers write down what they are told, by the clock of the simulated world."""

    history: History

    async def acquire(
        self, resource: Resource, claim: Claim, ttl: float, wait: float, renew: bool, max_hold: float = inf
    ) -> Grant:
        runtime: Any = self.runtime
        self.history.clock = lambda: runtime.world.time
        with self.history.client(runtime.name).acquiring(resource, claim) as attempt:
            grant = await super().acquire(resource, claim, ttl, wait, renew, max_hold)
            valid = SimpleNamespace(fence=grant.fence, is_valid=lambda: grant.valid(runtime.now()))
            attempt.won(valid)
            self.attempts[grant.token] = attempt
        return grant

    async def release(self, grant: Grant) -> None:
        with self.attempts[grant.token].releasing():
            await super().release(grant)

    @property
    def attempts(self) -> dict[str, Attempt]:
        found: dict[str, Attempt] = vars(self).setdefault("_attempts", {})
        return found


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setattr(simulated, "LeaseProtocol", Recorded)
    monkeypatch.setattr(Recorded, "history", History(clock=lambda: 0.0), raising=False)
    return Recorded.history


@pytest.mark.parametrize("faults", [False, True])
def test_C5_F1_histories_of_the_simulator_are_linearizable(
    faults: bool, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = 0
    for seed in range(120):
        fresh = History(clock=lambda: 0.0)
        monkeypatch.setattr(Recorded, "history", fresh)
        simulate(seed, faults=faults)
        verdict = check(fresh.events())
        # With faults a withdrawal may be on its way when its caller is told: refusals are judged without.
        hard = [each for each in verdict.violations if each.what != "refusal" or not faults]
        assert hard == [], f"seed {seed}: {verdict}"
        granted += verdict.granted
    assert granted > 300


def test_a_bug_of_the_shipped_script_shows_in_the_history_alone(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator's own invariants are off: what callers were told is enough to see two holders."""
    PLANTED["release without comparing the token"][0](monkeypatch)
    monkeypatch.setattr("backstay.simulation.World.invariant", lambda self, check: None)
    found = 0
    for seed in range(120):
        fresh = History(clock=lambda: 0.0)
        monkeypatch.setattr(Recorded, "history", fresh)
        simulate(seed)
        found += any(each.what == "exclusion" for each in check(fresh.events()).violations)
    assert found >= 1
