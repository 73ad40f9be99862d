"""The reference pages say what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from backstay import errors
from backstay.errors import BackstayError, Misuse, OutcomeUnknown

ROOT = Path(__file__).resolve().parents[3]


def rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / "reference" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_every_error_stands_in_the_reference_with_its_branch_and_status() -> None:
    written = {row[0].strip("`"): (row[1], int(row[2])) for row in rows("errors.md")}
    found: dict[str, tuple[str, int]] = {}
    for name in errors.__all__:
        kind = getattr(errors, name)
        branch = (
            "unknown"
            if issubclass(kind, OutcomeUnknown)
            else "never possible"
            if issubclass(kind, Misuse)
            else "not done"
        )
        if kind is not BackstayError:
            found[name] = (branch, kind.http_status)
    assert written == found


def test_every_extra_stands_in_the_reference_with_its_packages() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bare = {
        extra: sorted(re.split(r"[>=\[]", need)[0] for need in needs if not need.startswith("backstay["))
        for extra, needs in declared.items()
        if extra != "all"
    }
    written = {
        row[0].strip("`"): sorted(name.strip(" `") for name in row[1].split(","))
        for row in rows("urls-and-extras.md")
        if "://" not in row[0]
    }
    assert written == bare


def test_all_extras_are_in_all() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (everything,) = declared["all"]
    named = set(everything.removeprefix("backstay[").removesuffix("]").split(","))
    assert named | {"all", "sql"} == set(declared)
