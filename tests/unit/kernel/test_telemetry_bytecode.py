"""No counter of the library is updated in a way that loses counts between threads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import backstay
from backstay.telemetry.histograms import Histogram
from backstay.testing.bytecode import code_of, racy_updates

LIBRARY = Path(backstay.__file__).parent
COUNTING = ("n", "sum", "ok", "total")


def sources() -> list[Path]:
    roots = [LIBRARY, *(link.resolve() for link in LIBRARY.iterdir() if link.is_symlink())]
    return [path for root in roots for path in root.rglob("*.py")]


def test_no_counter_update_of_the_library_has_a_call_between_load_and_store() -> None:
    faults: list[str] = []
    for path in sources():
        code = compile(path.read_text(), str(path), "exec")
        faults += [fault for attribute in COUNTING for fault in racy_updates(code, attribute)]
    assert faults == []


def test_no_bucket_update_of_the_library_has_a_call_on_its_right_side_or_in_its_index() -> None:
    """`buckets[i] += 1` is safe for the same reason; the index must be a local name or a constant."""
    faults: list[str] = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
                place, owner = node.target.slice, node.target.value
                if isinstance(owner, ast.Attribute) and owner.attr == "buckets":
                    inside = [part for side in (place, node.value) for part in ast.walk(side)]
                    faults += [f"{path}:{node.lineno}" for part in inside if isinstance(part, ast.Call)]
    assert faults == []


@pytest.mark.parametrize(
    ("line", "racy"),
    [
        ("c.n += 1", False),
        ("c.n += by", False),
        ("c.n -= 1", False),
        ("self.calls.n += 1", False),
        ("c.n += len(by)", True),
        ("c.n += f()", True),
        ("c.n += 1 if f() else 2", True),
        ("c.n += by.size()", True),
        ("c.m += f()", False),
        ("c.n = f()", False),
        ("c.n += sum(x for x in by)", True),
    ],
)
def test_the_lint_tells_exact_updates_from_racy_ones(line: str, racy: bool) -> None:
    code = compile(f"def add(self, c, by, f):\n    {line}\n", "sample.py", "exec")
    found = racy_updates(code)
    assert bool(found) is racy
    assert all("sample.py:2 in add" in fault for fault in found)


def test_the_lint_looks_into_nested_functions() -> None:
    code = compile("class A:\n  def f(self):\n    def g(c):\n      c.n += h()\n    return g\n", "nested.py", "exec")
    assert [part.co_name for part in code_of(code)] == ["<module>", "A", "f", "g"]
    assert len(racy_updates(code)) == 1


def test_recording_a_value_calls_nothing_but_the_search() -> None:
    assert racy_updates(Histogram.record.__code__, "sum") == []
