from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from examples.shop.replay.data import BASKETS, Basket, Replay, write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baskets") / "baskets.jsonl"
    write_cache(path)
    return path


def test_every_real_basket_is_replayed_once(cache: Path) -> None:
    ids, lines, largest = set[int](), 0, 0
    for basket in Replay(count=BASKETS, seed=5, cache=cache):
        ids.add(basket.basket_id)
        lines += len(basket.lines)
        largest = max(largest, *(quantity for _, quantity, _ in basket.lines))
    assert len(ids) == BASKETS
    assert lines == 1_469_307
    assert largest == 144, "fuel, measured in thousandths of a gallon, counts as one unit"


def test_the_seed_alone_chooses_the_baskets(cache: Path) -> None:
    def baskets(seed: int) -> list[Basket]:
        return list(Replay(count=50, seed=seed, cache=cache))

    assert baskets(1) == baskets(1)
    assert baskets(1) != baskets(2)


def test_stock_is_four_fifths_of_the_demand_and_a_few_households_are_poor(cache: Path) -> None:
    replay = Replay(count=2_000, seed=1, cache=cache)
    demand, spending = Counter[int](), Counter[int]()
    for basket in replay:
        for product, quantity, cents in basket.lines:
            demand[product] += quantity
            spending[basket.household_id] += cents
    opening = replay.opening()
    assert opening.stock.keys() == demand.keys()
    assert all(abs(opening.stock[p] - 0.8 * n) <= 0.5 for p, n in demand.items() if n > 1)
    poor = [h for h, cents in opening.balances.items() if cents < spending[h]]
    assert 0.04 < len(poor) / len(opening.balances) < 0.14
    assert all(opening.balances[h] == spending[h] // 2 for h in poor)


def test_a_replay_of_no_or_too_many_baskets_is_refused(cache: Path) -> None:
    for count in (0, BASKETS + 1):
        with pytest.raises(ValueError, match="baskets must be 1 to"):
            Replay(count=count, seed=1, cache=cache)
