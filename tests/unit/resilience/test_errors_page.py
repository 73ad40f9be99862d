"""The page of errors says of each error of a policy what it is and how it is answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backstay import errors
from backstay.resilience.circuit_breaker import CircuitOpen
from backstay.resilience.frameworks.answers import FailedAnswer
from backstay.resilience.pybreaker import CircuitBreakerError
from backstay.resilience.rate_limiting.strategies.stores import StorageUnsupported
from backstay.resilience.retry import ResultRefused
from backstay.resilience.system_guard import Overloaded
from backstay.resilience.timeout import CallTimedOut, DeadlineExceeded

ROOT = Path(__file__).parents[3]
KINDS: tuple[type[errors.BackstayError], ...] = (
    CircuitOpen, CircuitBreakerError, Overloaded, CallTimedOut, DeadlineExceeded, ResultRefused, StorageUnsupported,
    FailedAnswer,
)  # fmt: skip


def rows() -> dict[str, tuple[str, int]]:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    _, _, table = text.partition("## Of policies")
    cells = [re.split(r" \| ", line.strip("| ")) for line in table.partition("## Of locks")[0].splitlines()]
    return {row[1].strip("`"): (row[2].strip("`"), int(row[3])) for row in cells if len(row) == 5 and row[3].isdigit()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_of_a_policy_stands_on_the_page(kind: type[errors.BackstayError]) -> None:
    branch, status = rows()[kind.__name__]
    assert issubclass(kind, getattr(errors, branch))
    assert status == kind.http_status


def test_the_page_names_no_other_and_none_is_forgotten() -> None:
    assert set(rows()) == {kind.__name__ for kind in KINDS}
    # Those of reads, writes and configuration have pages of their own.
    others = {
        "write_behind",
        "switch_service",
        "read_chain",
        "delivery",
        "switches",
        "levels",
    }
    made: set[str] = set()
    for path in (ROOT / "resilience").rglob("*.py"):
        if path.relative_to(ROOT / "resilience").parts[0] not in others:
            found = re.findall(r"^class (\w+)\(([^)]*)\)", path.read_text(encoding="utf-8"), re.MULTILINE)
            made |= {name for name, bases in found if set(re.split(r"[,. ]+", bases)) & set(errors.__all__)}
    assert made == set(rows())
