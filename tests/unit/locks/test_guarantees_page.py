"""The page of guarantees names a test for each criterion: each must exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "lock-guarantees.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:test_|Test)\w+)`", PAGE.read_text(encoding="utf-8")))
    sources = [*ROOT.glob("tests/*/locks/test_*.py"), *ROOT.glob("backstay/testing/locks*.py")]
    sources += ROOT.glob("backstay/testing/locks/*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    there = set(re.findall(r"(?:def|class) ((?:test_|Test)\w+)", text))
    assert len(named) > 40
    assert named - there == set()
