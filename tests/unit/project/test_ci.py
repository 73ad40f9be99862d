"""The scripts around the tests: a failure, a skip or an empty run never looks like success."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that holds the scripts only; `make` in it says what the test wants it to say."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "bin").mkdir()
    return tmp_path


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def call(checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def run(checkout: Path, make: str) -> subprocess.CompletedProcess[str]:
    script(checkout / "bin" / "make", make)
    return call(checkout, "bash", ".ci/run")


def test_success_ends_with_pytests_closing_line(checkout: Path) -> None:
    done = run(checkout, 'echo "make $1"; [ "$1" = check ] || echo "===== 12 passed in 3.45s ====="')
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["make check", "make test", *["===== 12 passed in 3.45s ====="] * 2]


@pytest.mark.parametrize(
    ("make", "status"),
    [
        ('[ "$1" != check ]', 1),
        ('[ "$1" = check ] || { echo "1 failed, 11 passed in 3.45s"; exit 2; }', 2),
        ('[ "$1" = check ] || { echo "no tests ran in 0.01s"; exit 5; }', 5),
        ('[ "$1" = check ] || echo "no tests ran in 0.01s"', 1),
        ('[ "$1" = check ] || echo "11 passed, 1 skipped in 3.45s"', 1),
        ('[ "$1" = check ] || { echo "docker/engine.sh: no engine answers" >&2; exit 2; }', 2),
    ],
    ids=["check fails", "a test fails", "no test, said by pytest", "no test, said by nobody", "a skip", "no server"],
)
def test_nothing_else_is_success(checkout: Path, make: str, status: int) -> None:
    assert run(checkout, make).returncode == status


def test_the_engine_is_left_alone_where_all_servers_run_already(checkout: Path) -> None:
    script(checkout / "docker" / "engine.sh", "echo asked; exit 1")
    urls = {f"BACKSTAY_TEST_{part}_URL": "redis://elsewhere" for part in ("REDIS", "POSTGRES", "MARIADB", "ZOOKEEPER")}
    assert call(checkout, ".ci/servers", **urls).returncode == 0
    missing = call(checkout, ".ci/servers", **{**urls, "BACKSTAY_TEST_REDIS_URL": ""})
    assert (missing.returncode, missing.stdout) == (1, "asked\n")


def test_an_old_python_is_refused_with_the_cure(checkout: Path) -> None:
    script(checkout / "bin" / "old", '[ "$1" != --version ] || echo \'Python 3.9.2\'; [ "$1" = --version ]')
    done = call(checkout, ".ci/venv", ".venv", "dev", PYTHON="old")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; found old = Python 3.9.2" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_ensurepip_and_without_root_the_package_is_named(checkout: Path) -> None:
    """A Python that lacks `ensurepip`, as Debian ships it, and a user who may not install packages."""
    script(
        checkout / "bin" / "bare",
        f'case "$2" in *ensurepip*) exit 1;; esac; exec "{shutil.which("python3")}" "$@"',
    )
    script(checkout / "bin" / "id", "echo 1000")
    done = call(checkout, ".ci/venv", ".venv", "dev", PYTHON="bare")
    assert done.returncode == 1
    assert "-venv (Debian, Ubuntu)" in done.stderr
    assert not (checkout / ".venv").exists()
