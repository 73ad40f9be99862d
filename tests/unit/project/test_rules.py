"""Rules of the project that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("resilience", "locks", "txn", "sharding")
LIBRARY = ("backstay", *PACKAGES)


def tracked(*patterns: str) -> list[Path]:
    """The project's files: what is committed, and what is new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    paths = (ROOT / name for name in sorted(set(filter(None, listed.split("\0")))))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def library() -> list[Path]:
    return [path for path in tracked("*.py") if path.relative_to(ROOT).parts[0] in LIBRARY]


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports from outside its own package, with its full dotted name."""
    tree = ast.parse(path.read_text())
    for_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"require", "import_module"}
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def roots(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imported(path)}


def test_the_packages_are_imported_under_their_full_names() -> None:
    bare = {name(path): sorted(set(PACKAGES) & roots(path)) for path in tracked("*.py") if set(PACKAGES) & roots(path)}
    assert bare == {}, "import backstay.locks: the bare name belongs to the application"


def test_modules_of_the_tests_have_one_name() -> None:
    """`tests.unit.x` and `unit.x` would be two modules with two copies of everything in them."""
    assert [name(path) for path in tracked("tests/*.py") if "tests" in roots(path)] == []


def test_no_wall_clock_decides_anything() -> None:
    # time_ns is left to stamps that go out and seeds that only have to grow
    clock = re.compile(r"\btime\.time\(|\bdatetime\.(now|utcnow|today)\(|from time import .*\btime\b")
    assert [name(path) for path in library() if clock.search(path.read_text())] == []


def test_core_modules_know_no_clock_no_threads_no_driver() -> None:
    banned = {"asyncio", "threading", "time", "anyio", "redis", "kazoo", "sqlalchemy", "httpx", "random", "socket"}
    core = [path for path in library() if path.name == "protocol.py"]
    assert {name(path): sorted(banned & roots(path)) for path in core if banned & roots(path)} == {}


# connect, connection, source: where a URL is told from a user's own client
DRIVER_HOMES = {
    "redis": r"^backstay/redis/|/backends/|^locks/guards/redis/|/(connect|connection|source)\.py$|^backstay/testing/"
    r"|^resilience/(circuit_breaker/shared|pybreaker)/|^resilience/read_chain/policy",
    "kazoo": r"/backends/|/(connect|connection|source)\.py$|^backstay/testing/",
    "sqlalchemy": r"^(txn|sharding|locks/(backends|guards/sqlalchemy)|resilience/(switch_service|write_behind))/|"
    r"^locks/(connection|source)|^backstay/testing/(txn|sharding)",
    "flask": r"^backstay/flask|/flask|/http|/levels/pages|/frameworks/|/client_identity|^backstay/testing/",
    "fastapi": r"^backstay/fastapi|/fastapi|/http|/levels/pages|/frameworks/|^resilience/switch_service/|"
    r"^backstay/testing/",
    "httpx": r"^txn/|^backstay/testing/|/frameworks/httpx|^resilience/switch_service/",
    "requests": r"/frameworks/requests",
    "celery": r"^locks/guards/celery|/frameworks/celery",
    "tenacity": r"^resilience/retry/",
    "pybreaker": r"^resilience/pybreaker",
    "limits": r"^resilience/(limits|rate_limiting/(grammar|strategies/))",
    "openfeature": r"^resilience/switches/openfeature",
    "typer": r"cli",
}


@pytest.mark.parametrize("driver", DRIVER_HOMES)
def test_each_driver_is_imported_in_one_place(driver: str) -> None:
    outside = [
        name(path) for path in library() if driver in roots(path) and not re.search(DRIVER_HOMES[driver], name(path))
    ]
    assert outside == []


def test_what_the_library_imports_is_declared_and_what_is_declared_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]
    declared = {re.split(r"[\[>=]", need)[0].lower() for need in needs} - {"backstay"}
    modules = {
        "openfeature-sdk": "openfeature",
        "opentelemetry-api": "opentelemetry",
        "opentelemetry-sdk": "opentelemetry.sdk",
        "pyyaml": "yaml",
    }
    modules["openfeature-sdk"] = "openfeature"
    shipped_with_others = {"starlette", "werkzeug"}
    pytest_for_suites = {"pytest"}
    foreign = {root for path in library() for root in roots(path)} - sys.stdlib_module_names - {"backstay"}
    assert foreign <= {modules.get(d, d).partition(".")[0] for d in declared} | shipped_with_others | pytest_for_suites
    everything = "\n".join(path.read_text() for path in library())
    assert [d for d in sorted(declared) if not re.search(rf"\b{re.escape(modules.get(d, d))}\b", everything)] == []


def test_IN4_the_sdk_is_optional_and_only_the_api_is_imported_at_the_top() -> None:
    eager: list[str] = []
    for path in library():
        if name(path).startswith("backstay/testing/"):
            continue
        for node in ast.parse(path.read_text()).body:
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module or ""]
            if any(found.startswith("opentelemetry.sdk") for found in names):
                eager.append(name(path))
    assert eager == []


def has_code(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def test_annotations_are_never_evaluated_at_import() -> None:
    future = "from __future__ import annotations"
    lacking = [name(path) for path in library() if has_code(path) and future not in path.read_text()]
    assert lacking == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    marks = re.compile(r"pytest\.(skip|xfail|importorskip)\b|mark\.(skip|skipif|xfail)\b|@unittest\.skip")
    found = [name(p) for p in tracked("tests/*.py") if marks.search(p.read_text()) and p != Path(__file__)]
    assert found == []


def test_tests_of_pure_code_never_sleep() -> None:
    sleep = re.compile(r"\btime\.sleep\(|\basyncio\.sleep\((?!0[,)])|\banyio\.sleep\((?!0[,)])")
    folders = ("tests/unit/*.py", "tests/contracts/*.py", "tests/stateful/*.py")
    assert [name(p) for p in tracked(*folders) if sleep.search(p.read_text()) and p != Path(__file__)] == []


def test_nothing_is_left_for_later_in_the_code() -> None:
    mark = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
    assert [name(path) for path in tracked("*.py", "*.lua", "*.sql", "*.sh") if mark.search(path.read_text())] == []


def test_scripts_of_the_stores_stand_in_files() -> None:
    call = re.compile(r"redis\.call\(|\bKEYS\[1\]")
    assert [name(path) for path in library() if call.search(path.read_text())] == []


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    # Written in halves, or this file would name them.
    traces = [
        "/" + "work/",
        "/" + "root/",
        "/tmp/" + "brief",
        "pypi" + ".org",
        "python" + "hosted",
        "deb.debian" + ".org",
    ]
    traces += ["registry.npmjs" + ".org", "proxy.golang" + ".org"]
    found = {
        name(path): hits
        for path in tracked()
        if (hits := [trace for trace in traces if trace in path.read_text(errors="replace")])
    }
    assert found == {}


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 150
