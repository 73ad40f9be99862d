from __future__ import annotations

from collections import Counter

from examples.shop.replay.faults import RATES, Faults


def test_the_same_call_meets_the_same_fault() -> None:
    first, second = Faults(seed=7, baskets=2_000), Faults(seed=7, baskets=2_000)
    calls = [(basket, nth) for basket in range(500) for nth in (1, 2, 3)]
    drawn = [first.of_call("orders-stock", *call) for call in calls]
    assert drawn == [second.of_call("orders-stock", *call) for call in reversed(calls)][::-1]
    assert any(drawn)
    assert drawn != [Faults(seed=8, baskets=2_000).of_call("orders-stock", *call) for call in calls]
    assert drawn != [first.of_call("orders-payments", *call) for call in calls]


def test_every_kind_of_fault_comes_about_as_often_as_planned() -> None:
    faults = Faults(seed=1, baskets=1)
    calls = 20_000
    met = Counter(fault.kind for n in range(calls) if (fault := faults.of_call("client-orders", n, 1)))
    for kind, (rate, _, _) in RATES.items():
        assert 0.7 * rate < met[kind] / calls < 1.3 * rate, kind


def test_payments_and_orders_are_killed_several_times_spread_over_the_replay() -> None:
    for seed in range(20):
        kills = Faults(seed=seed, baskets=2_000).kills()
        assert Counter(kill.service for kill in kills) == {"payments": 4, "orders": 4}
        moments = [kill.baskets for kill in kills]
        assert moments == sorted(moments)
        assert moments[0] > 100
        assert moments[-1] < 1_950
    assert Counter(k.service for k in Faults(seed=1, baskets=60).kills()) == {"payments": 1, "orders": 1}
