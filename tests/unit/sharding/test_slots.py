"""R14: one outcome for each kind of key, and a hash that never changes."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backstay.sharding import BadKey
from backstay.sharding.slots import BYTES, INT, TEXT, UUID, slot

GOLDEN = Path(__file__).with_name("golden_slots.json")
READ: dict[str, tuple[Any, Any]] = {
    "int": (INT, int),
    "str": (TEXT, str),
    "UUID": (UUID, uuid.UUID),
    "bytes": (BYTES, bytes.fromhex),
}


def test_R14_golden_vectors_hold() -> None:
    vectors = json.loads(GOLDEN.read_text())
    assert len(vectors) >= 1000
    wrong = []
    for name, text, expected in vectors:
        kind, read = READ[name]
        if slot(kind, kind.canonical(read(text)), 1024) != expected:
            wrong.append((name, text))
    assert not wrong


def test_R14_the_hash_does_not_depend_on_the_process() -> None:
    code = (
        "from backstay.sharding.slots import *\nprint([slot(TEXT, TEXT.canonical(f'k{i}'), 1024) for i in range(50)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1 and outputs.pop().strip() == str([slot(TEXT, f"k{i}", 1024) for i in range(50)])


@pytest.mark.parametrize(
    "value", [True, False, "7", 7.0, Decimal(7), None, b"7", 2**63, -(2**63) - 1, uuid.UUID(int=7)]
)
def test_R14_what_is_no_int_key(value: object) -> None:
    with pytest.raises(BadKey):
        INT.canonical(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(TEXT, 7), (TEXT, None), (TEXT, b"a"), (UUID, str(uuid.UUID(int=7))), (UUID, None), (BYTES, "a"), (BYTES, None)],
)
def test_R14_other_kinds_take_their_own_type_only(kind: Any, value: object) -> None:
    with pytest.raises(BadKey):
        kind.canonical(value)


def test_R14_what_has_an_index_is_an_int_key() -> None:
    class Like:  # stands for numpy's integers, which are no dependency
        def __index__(self) -> int:
            return 7

    assert INT.canonical(Like()) == 7


def test_R14_texts_that_a_database_may_call_equal_share_a_slot() -> None:
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    assert TEXT.canonical(composed) == TEXT.canonical(decomposed)
    assert TEXT.canonical("a") == TEXT.canonical("a  ") != TEXT.canonical("A")


def test_bytes_may_come_as_bytearray_or_memoryview() -> None:
    assert BYTES.canonical(bytearray(b"ab")) == BYTES.canonical(memoryview(b"ab")) == b"ab"


@pytest.mark.parametrize("stride", [1, 2, 7, 256, 1024, 4096, 1 << 20, 1_000_003])
def test_keys_with_a_stride_spread_evenly(stride: int) -> None:
    counts = Counter(slot(INT, at * stride, 1024) * 4 // 1024 for at in range(8000))
    assert len(counts) == 4 and max(counts.values()) < 1.1 * 2000


def test_the_text_of_an_error_does_not_hold_the_key() -> None:
    with pytest.raises(BadKey) as error:
        INT.canonical("4111-1111")
    assert "4111" not in str(error.value) and "str" in str(error.value)
