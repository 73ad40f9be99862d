"""Which stripe a key falls on: the same in every process and language, and even (G1)."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.locks import Locks
from backstay.locks.recipes.segmented import stripe_of

ROOT = Path(__file__).parents[3]

VECTORS: list[tuple[Any, int]] = [
    ("", 0),
    ("123456789", 3421780262),  # the check value that lists of CRCs give
    (123456789, 3421780262),
    (b"123456789", 3421780262),
    ("a", 3904355907),
    ("order:42", 1319023403),
    ("ключ", 212833818),
    (-1, 808273962),
    (uuid.UUID("00000000-0000-0000-0000-000000000001"), 4132891167),
]


@pytest.mark.parametrize(("key", "crc"), VECTORS)
def test_G1_the_hash_is_the_documented_one(key: Any, crc: int) -> None:
    assert stripe_of(key, 1 << 32) == crc
    for segments in (1, 3, 16, 1024):
        assert stripe_of(key, segments) == crc % segments


def test_G1_the_page_lists_the_same_vectors() -> None:
    page = (ROOT / "docs" / "how-to" / "choose-a-lock.md").read_text(encoding="utf-8")
    for key, crc in VECTORS:
        if isinstance(key, str) and key:
            assert f"| `{key}` | {crc} | {crc % 16} |" in page


def test_G1_another_process_with_another_hash_seed_agrees() -> None:
    load = "from backstay.locks.recipes.segmented import stripe_of"
    code = load + "; print([stripe_of(f'key {n}', 16) for n in range(50)])"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True,
            timeout=30, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {f"{[stripe_of(f'key {n}', 16) for n in range(50)]}\n"}


@pytest.mark.parametrize("shape", ["{}", "order:{}", "sku-{:08d}", "{}@example.com"])
@pytest.mark.parametrize("segments", [3, 16, 64])
def test_G1_keys_spread_evenly(shape: str, segments: int) -> None:
    count = Counter(stripe_of(shape.format(number), segments) for number in range(segments * 200))
    assert len(count) == segments
    assert max(count.values()) < 200 * 1.4
    assert min(count.values()) > 200 * 0.6


@pytest.mark.parametrize("key", [None, True, 1.0, ("a",), ["a"], object()])
def test_G1_keys_whose_bytes_are_not_defined_are_refused(key: Any) -> None:
    with pytest.raises(Misuse, match="a key is a text, a whole number, bytes or a UUID"):
        stripe_of(key, 16)


def test_G2_keys_become_distinct_stripes_in_order() -> None:
    lock = Locks.connect("memory://").segmented("stock", segments=16)
    claim = lock.lock("a", "order:42", "a", "ключ", "123456789")._claim
    shared, *stripes = claim.units
    assert shared.label == "*"
    assert [unit.label for unit in stripes] == ["3", "6", "10", "11"]
