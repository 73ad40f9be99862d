"""The page of guarantees names a test for each criterion or says why there is none, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "lock-guarantees.md"
LAST = {"C": 11, "R": 13, "W": 6, "F": 8, "N": 10, "O": 9, "Q": 5, "RW": 6, "S": 6, "M": 3, "G": 6, "K": 5, "L": 5,
        "Z": 12, "E": 7, "T": 4, "X": 9}  # fmt: skip
CRITERIA = {f"{letters}{number}" for letters, last in LAST.items() for number in range(1, last + 1)}


def rows() -> dict[str, str]:
    """Return the last cell of the table of criteria by number."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## The criteria")
    found: dict[str, str] = {}
    for line in table.splitlines():
        if re.match(r"\| [A-Z]+\d", line):
            numbers, _, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            found |= dict.fromkeys(numbers.split(", "), tests)
    return found


def test_every_criterion_stands_on_the_page_with_a_test_or_a_reason() -> None:
    found = rows()
    assert set(found) == CRITERIA
    without = {number: cell for number, cell in found.items() if not re.search(r"`(?:test_|Test)\w+`", cell)}
    assert all(re.match(r"(?:not (?:built|applicable)|measured): \w", cell) for cell in without.values())
    assert set(without) == {"O8", "G6", "E1", "E2", "E3"}


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:test_|Test)\w+)`", PAGE.read_text(encoding="utf-8")))
    sources = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("backstay/testing/**/*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    there = set(re.findall(r"(?:def|class) ((?:test_|Test)\w+)", text))
    assert len(named) > 100
    assert named - there == set()
