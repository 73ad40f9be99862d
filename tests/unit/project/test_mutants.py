"""The list of mutants stays true to the code: each row still applies, and names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from run_mutants import LIST, ROOT, Mutant, judge, parse

MUTANTS = parse(LIST.read_text())


def test_every_row_of_the_list_is_read() -> None:
    rows = [line for line in LIST.read_text().splitlines() if line.startswith("|")]
    assert len(rows) - 2 == len(MUTANTS) >= 1
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_mutant_still_applies(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
    file, *names = mutant.test.split("::")
    # the tests of a contract are inherited from the suites that the library ships, or from a suite beside the file
    shipped = sorted((ROOT / "backstay" / "testing").rglob("*.py")) if file.startswith("tests/contracts/") else []
    suites = [*shipped, *sorted((ROOT / file).parent.glob("*.py"))] if "::Test" in mutant.test else []
    source = "\n".join(path.read_text() for path in [ROOT / file, *suites])
    for name in names:
        assert re.search(rf"\b(def|class) {re.escape(name.partition('[')[0])}\b", source), f"{file} has no {name}"


def test_cells_carry_bars_line_breaks_and_backticks() -> None:
    (mutant,) = parse(r"| a-1 | `f.py` | `x \| y` | `` `z` `` | `t.py::test_a[1\|2]` |")
    assert mutant == Mutant(id="a-1", file="f.py", old="x | y", new="`z`", test="t.py::test_a[1|2]")
    (mutant,) = parse(r"| b | f.py | `a\n    b` | `a` | t.py::t |")
    assert mutant.old == "a\n    b"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text("def one():\n    return 1\n")
    (tmp_path / "test_one.py").write_text("import one\n\ndef test_one():\n    assert one.one() == 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("new", "verdict"),
    [("return 2", "caught"), ("return 1 * 1", "SURVIVED"), ("retrun 1", "BROKEN")],
)
def test_only_a_test_that_ran_and_failed_has_caught_a_mutant(place: Path, new: str, verdict: str) -> None:
    mutant = Mutant(id="m", file="one.py", old="return 1", new=new, test="test_one.py::test_one")
    assert judge(place, mutant)[0] == verdict
    assert (place / "one.py").read_text() == "def one():\n    return 1\n"


def test_an_old_text_that_is_not_there_once_is_an_error(place: Path) -> None:
    with pytest.raises(ValueError, match=r"occurs \d times"):
        judge(place, Mutant(id="m", file="one.py", old="n", new="m", test="test_one.py"))
