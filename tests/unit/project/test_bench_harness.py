"""The benchmark harness is fair: the order alternates, a drift cancels, and noise is never judged."""

from __future__ import annotations

import pytest

from benchmarks.harness import Case, Outcome, calls_per_batch, measure


class Machine:
    """Sides whose cost is set by the test; it records who ran when."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.slower = 1.0

    def side(self, name: str, cost: float, drift: float = 1.0) -> object:
        def run(n: int) -> float:
            self.ran.append(name)
            self.slower *= drift
            return n * cost * self.slower

        return run


def case(**sides: object) -> Case:
    return Case(name="case", timed=True, batch_seconds=1.0, **sides)  # type: ignore[arg-type]  # fakes stand for callables


def test_order_alternates_so_that_neither_side_is_always_cold() -> None:
    machine = Machine()
    measure(
        case(floor=machine.side("floor", 0.1), ours=machine.side("ours", 0.2), peer=machine.side("peer", 0.3)), rounds=4
    )
    batches = machine.ran[-2 * 4 * 4 :: 2]  # each batch is warmed first: every name stands twice
    rounds = [batches[i : i + 4] for i in range(0, 16, 4)]
    there, back = ["floor", "ours", "peer", "floor"], ["floor", "peer", "ours", "floor"]
    assert rounds == [there, back, back, there]
    assert machine.ran[-32::2] == machine.ran[-31::2]


def test_ratio_and_control_are_exact_on_a_steady_machine() -> None:
    machine = Machine()
    outcome = measure(case(floor=machine.side("floor", 0.1), ours=machine.side("ours", 0.25), target=2.6), rounds=5)
    assert outcome.ratio == pytest.approx(2.5)
    assert outcome.control == pytest.approx(1.0)
    assert outcome.ours == pytest.approx(0.25)
    assert outcome.verdict == "met"


def test_a_machine_that_slows_down_all_the_time_changes_no_ratio() -> None:
    machine = Machine()
    floor, ours = machine.side("floor", 0.1, drift=1.002), machine.side("ours", 0.1, drift=1.002)
    assert measure(case(floor=floor, ours=ours), rounds=7).ratio == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize(
    ("ratio", "control", "peer_ratio", "verdict"),
    [(1.2, 1.0, None, "MISSED"), (1.0, 1.0, None, "met"), (1.2, 1.02, None, "noisy"), (1.0, 1.0, 0.95, "MISSED")],
)
def test_verdict(ratio: float, control: float, peer_ratio: float | None, verdict: str) -> None:
    judged = case(floor=len, ours=len, target=1.1, peer_target=0.9)
    outcome = Outcome(
        case=judged, floor=1, ours=ratio, ratio=ratio, spread=(ratio, ratio), control=control, peer_ratio=peer_ratio
    )
    assert outcome.verdict == verdict


def test_a_batch_is_as_long_as_asked() -> None:
    assert calls_per_batch(lambda n: n * 0.001, 0.5) == 500


def test_colours_are_not_mixed() -> None:
    async def later() -> None: ...

    with pytest.raises(ValueError, match="one colour"):
        Case(name="mixed", floor=later, ours=len)
    with pytest.raises(ValueError, match="rounds must be >= 3"):
        measure(case(floor=len, ours=len), rounds=2)


def test_both_colours_run_for_real() -> None:
    async def step() -> int:
        return 1

    for side in (step, lambda: 1):
        outcome = measure(Case(name="real", floor=side, ours=side, batch_seconds=0.0005), rounds=3)
        assert 0 < outcome.ours < 1
        assert outcome.ratio > 0
