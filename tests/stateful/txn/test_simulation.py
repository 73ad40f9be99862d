"""B-3: histories of duplicated, dropped, delayed and reordered messages, crashes, stalls and a breaking journal."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from backstay.txn import Outcome
from stateful.txn.simulated import Shop, close_databases, run

SEEDS = int(os.environ.get("BACKSTAY_TXN_SEEDS", "160"))
PER_TEST = 20


@pytest.fixture(scope="module", autouse=True)
def _databases() -> Iterator[None]:
    yield
    close_databases()


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_B3_money_and_stock_are_kept_and_nothing_hangs(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_the_histories_reach_what_they_are_meant_to_reach() -> None:
    """A simulation in which nothing goes wrong would prove nothing."""
    outcomes: list[Outcome] = []
    recovered = 0
    for seed in range(40):
        shop = run(seed)
        outcomes.extend(told for basket in shop.baskets for told in basket.told.values())
        recovered += sum(len(basket.told) == 0 for basket in shop.baskets)
    assert outcomes.count(Outcome.CONFIRMED) > 40
    assert outcomes.count(Outcome.CANCELLED) > 40
    assert recovered > 20  # clients that never heard, because somebody died


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_block_finishes_its_own_transaction(seed: int) -> None:
    """Liveness: with faults, recovery would hide a block that forgets to finish."""
    shop = Shop(seed)
    for basket in shop.baskets:
        basket.think = min(basket.think, 0.3)
    shop.sell(shop.hosts[0], shop.baskets)
    trouble = shop.casts[0].finisher.measures.trouble
    before = trouble.n
    shop.world.run()
    assert shop.unfinished() == 0
    told = [outcome for basket in shop.baskets for outcome in basket.told.values()]
    assert len(told) == len(shop.baskets)
    assert trouble.n == before
    shop.audit()


def test_the_same_seed_gives_the_same_history() -> None:
    assert run(7).world.trace == run(7).world.trace
