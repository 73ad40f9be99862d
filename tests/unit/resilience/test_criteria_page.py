"""The page of guarantees names tests for each criterion or says why there are none, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "resilience-guarantees.md"
LAST = {"RL": 12, "CB": 10, "BH": 4, "AS": 4, "RT": 3, "AD": 1, "CO": 4, "IN": 4, "OT": 9, "SW": 12, "DG": 7, "WD": 7}
CRITERIA = [f"{letters}{number}" for letters, last in LAST.items() for number in range(1, last + 1)]
_NAMED = re.compile(r"`((?:test_|Test)\w+)`")


def rows() -> dict[str, str]:
    """Return the cell of tests by number, in the order of the page."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## The criteria")
    found: dict[str, str] = {}
    for line in table.splitlines():
        if re.match(r"\| [A-Z]+\d", line):
            number, _, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            found[number] = tests
    return found


def test_every_criterion_stands_on_the_page_with_tests_or_a_reason() -> None:
    found = rows()
    assert list(found) == CRITERIA
    without = {number: cell for number, cell in found.items() if not _NAMED.search(cell)}
    assert all(re.match(r"not built: \w", cell) for cell in without.values())
    assert set(without) == {"OT3"}


def test_every_test_that_the_page_names_exists_and_carries_the_number() -> None:
    sources = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("backstay/testing/**/*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    there = set(re.findall(r"(?:def|class) ((?:test_|Test)\w+)", text))
    named = {number: set(_NAMED.findall(cell)) for number, cell in rows().items()}
    assert set().union(*named.values()) - there == set()
    assert len(set().union(*named.values())) > 100
    numbered = {number for number, tests in named.items() if any(f"_{number}_" in test for test in tests)}
    assert set(CRITERIA) - numbered == {"OT3", "OT7", "OT8"}
