"""The wheel and the sdist hold exactly the tree's files, and the wheel works where nothing else is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".lua", ".sql", ".html", ".css", ".js", ".svg"}
OPTIONAL = (
    "aiosqlite", "alembic", "fastapi", "flask", "httpx", "kazoo", "limits", "opentelemetry.sdk", "psycopg", "pybreaker",
    "pymysql", "redis", "rich", "sqlalchemy", "starlette", "tenacity", "typer",
)  # fmt: skip


def tree_files() -> set[str]:
    """Everything that belongs into the wheel, named as the wheel names it."""
    found: set[str] = set()
    for folder, _, names in os.walk(ROOT / "backstay", followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.suffix in SUFFIXES or name == "py.typed":
                found.add(path.relative_to(ROOT).as_posix())
    return found


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=bare_environment())
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def bare_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    }


@pytest.fixture(scope="module")
def from_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("from-tree")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, ROOT, cwd=target)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def from_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without --wheel, `build` makes the sdist, unpacks it, and builds the wheel from what it unpacked."""
    target = tmp_path_factory.mktemp("from-sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT, cwd=target)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory, from_tree: Path) -> Path:
    """A Python that has the wheel and what the wheel itself asks for, nothing more."""
    target = tmp_path_factory.mktemp("empty")
    venv.create(target, with_pip=False, symlinks=True)
    python = target / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", from_tree, cwd=target)
    return python


def package_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_exactly_the_trees_files(from_tree: Path) -> None:
    expected = tree_files()
    assert {"backstay/__init__.py", "backstay/py.typed"} <= expected
    assert any(name.startswith("backstay/locks/") for name in expected)
    assert package_files(from_tree) == expected


def test_wheel_from_the_sdist_is_the_wheel_from_the_tree(from_tree: Path, from_sdist: Path) -> None:
    with zipfile.ZipFile(from_tree) as tree, zipfile.ZipFile(from_sdist) as sdist:
        assert sorted(tree.namelist()) == sorted(sdist.namelist())
        assert [n for n in tree.namelist() if tree.read(n) != sdist.read(n)] == []


def test_sdist_holds_no_links_and_no_leftovers(from_sdist: Path) -> None:
    with tarfile.open(next(from_sdist.parent.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    assert [m.name for m in members if not (m.isfile() or m.isdir())] == []
    assert [m.name for m in members if "__pycache__" in m.name or m.name.endswith(".pyc")] == []


def test_wheel_names_its_licence_and_command(from_tree: Path) -> None:
    with zipfile.ZipFile(from_tree) as archive:
        (metadata,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        (commands,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("/entry_points.txt"))
        assert any(n.endswith(".dist-info/licenses/LICENSE") for n in archive.namelist())
    assert "License-Expression: Apache-2.0" in metadata
    assert "backstay = backstay.cli:main" in commands


def test_IN4_core_imports_alone_and_pulls_no_optional_dependency(empty_python: Path) -> None:
    script = f"""
        import sys
        import backstay, backstay.locks, backstay.resilience
        import backstay.errors, backstay.clock, backstay.keys, backstay.url, backstay.telemetry
        pulled = sorted(set({OPTIONAL!r}) & set(sys.modules))
        assert not pulled, pulled
        print(backstay.__file__)
    """
    place = run(empty_python, "-I", "-c", textwrap.dedent(script), cwd=empty_python.parent).strip()
    assert str(ROOT) not in place, "the wheel must be imported, not the work tree"


@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("import backstay.sharding", "sql"),
        ("import backstay.txn; backstay.txn.TransactionManager.connect('sqlite:///journal.db')", "sql"),
        ("import backstay.locks; backstay.locks.Locks.connect('redis://localhost/0')", "redis"),
        ("import backstay.resilience as r; r.RateLimiter.connect('redis://h/0', rate='1/second', name='n')", "redis"),
        ("import backstay.flask; backstay.flask.install(None)", "flask"),
        ("import backstay.fastapi; backstay.fastapi.install(None)", "fastapi"),
        ("import backstay.cli; backstay.cli.program()", "cli"),
    ],
    ids=["sharding", "txn", "locks on redis", "limiter on redis", "flask", "fastapi", "command line"],
)
def test_IN4_a_missing_extra_is_named_with_its_cure(empty_python: Path, use: str, extra: str) -> None:
    script = f"""
from backstay.errors import MissingExtra
try:
    {use}
except MissingExtra as error:
    print(error)
"""
    assert f"pip install 'backstay[{extra}]'" in run(empty_python, "-I", "-c", script, cwd=empty_python.parent)


def test_IN4_optional_dependencies_stay_out_even_where_they_are_installed() -> None:
    script = f"""
        import sys
        import backstay, backstay.locks, backstay.resilience, backstay.telemetry
        pulled = sorted(set({OPTIONAL!r}) & set(sys.modules))
        assert not pulled, pulled
        print("clean")
    """
    assert run(sys.executable, "-c", textwrap.dedent(script), cwd=ROOT).strip() == "clean"


def test_an_application_keeps_its_own_modules_of_our_folders_names(empty_python: Path, tmp_path: Path) -> None:
    for name in ("locks", "sharding", "txn"):
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    (tmp_path / "resilience").mkdir()
    (tmp_path / "resilience" / "__init__.py").write_text("mine = True\n")
    (tmp_path / "app.py").write_text(
        textwrap.dedent("""
        import locks, resilience, sharding, txn
        import backstay.locks, backstay.resilience
        assert locks.mine and resilience.mine and sharding.mine and txn.mine
        assert backstay.locks is not locks and not hasattr(backstay.locks, "mine")
        print("both")
        """)
    )
    assert run(empty_python, "app.py", cwd=tmp_path).strip() == "both"


def test_the_version_has_one_source(empty_python: Path) -> None:
    script = "import backstay, importlib.metadata as m; print(backstay.__version__ == m.version('backstay'))"
    assert run(empty_python, "-I", "-c", script, cwd=empty_python.parent).strip() == "True"
