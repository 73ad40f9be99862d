"""The command line: what it loads and when, and what its exit codes say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import backstay
from backstay import cli
from backstay.errors import BackstayError, MissingExtra, Misuse, NotAcquired, OutcomeUnknown, Unavailable

SECRET = "hunter2"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["backstay", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code if isinstance(ended.value.code, int) else 0


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    """A package `locks` with commands, in place of whatever the library's has."""
    inner = typer.Typer()

    @inner.command()
    def show(name: str, deep: bool = False, fail: str = "") -> None:
        failures: dict[str, BackstayError] = {
            "misuse": Misuse("ttl must be > 0 s, got 0"),
            "extra": MissingExtra("'redis' is not installed; pip install 'backstay[redis]'"),
            "unavailable": Unavailable(f"redis://u:{SECRET}@h did not answer\n(see the server's log)\n"),
            "unknown": OutcomeUnknown("it may have happened", ask={"gtrid": "g1"}),
            "rejected": NotAcquired("lock 'a' is held by web-3"),
            "silent": Unavailable(),
        }
        if fail:
            raise failures[fail]
        print(f"{name} {deep}")

    @inner.command()
    def leave(code: int) -> None:
        raise typer.Exit(code)

    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "cli.py").write_text("")
    monkeypatch.setattr(cli, "_HERE", tmp_path)
    module: Any = ModuleType("backstay.locks.cli")
    module.app = inner
    monkeypatch.setitem(sys.modules, "backstay.locks.cli", module)
    return inner


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "version") == 0
    assert capsys.readouterr().out == backstay.__version__ + "\n"


@pytest.mark.usefixtures("package")
def test_arguments_and_options_reach_the_packages_own_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "locks", "show", "orders/7", "--deep") == 0
    assert capsys.readouterr().out == "orders/7 True\n"


@pytest.mark.usefixtures("package")
def test_help_of_a_package_is_the_packages_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "locks", "--help") == 0
    text = capsys.readouterr().out
    assert "backstay locks" in text
    assert "show" in text
    assert run(monkeypatch, "locks", "show", "--help") == 0
    assert "--deep" in capsys.readouterr().out


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("fail", "code", "says"),
    [
        ("misuse", 2, "backstay: ttl must be > 0 s, got 0"),
        ("extra", 2, "pip install 'backstay[redis]'"),
        ("unavailable", 3, "did not answer"),
        ("unknown", 4, "it may have happened"),
        ("rejected", 1, "held by web-3"),
        ("silent", 3, "backstay: Dependency unavailable"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fail: str, code: int, says: str
) -> None:
    assert run(monkeypatch, "locks", "show", "x", "--fail", fail) == code
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert says in streams.err
    assert SECRET not in streams.err


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("locks", "nothing"), ("locks", "show"), ("locks", "show", "x", "--nothing"), ("--nothing",)],
)
def test_a_mistyped_command_is_misuse(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert run(monkeypatch, *arguments) == 2


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("code", [0, 1, 7])
def test_a_commands_own_exit_code_is_kept(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert run(monkeypatch, "locks", "leave", str(code)) == code


@pytest.mark.usefixtures("package")
def test_only_packages_with_commands_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert "locks" in text
    assert "version" in text
    assert "txn" not in text


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_listing_the_commands_imports_no_package() -> None:
    ended = python("""
import sys
from backstay.cli import main
sys.argv = ["backstay", "--help"]
try:
    main()
except SystemExit:
    pass
loaded = [m for m in sys.modules if m.startswith(("backstay.locks", "backstay.txn", "backstay.sharding",
    "backstay.resilience", "redis", "sqlalchemy", "kazoo", "opentelemetry"))]
assert not loaded, loaded
""")
    assert ended.returncode == 0, ended.stderr


def test_without_typer_the_cure_is_named() -> None:
    ended = python("""
import sys
sys.modules["typer"] = None
sys.argv = ["backstay", "version"]
from backstay.cli import main
main()
""")
    assert ended.returncode == 2
    assert ended.stderr == "backstay: 'typer' is not installed; pip install 'backstay[cli]'\n"


def test_the_console_script_is_installed_and_runs() -> None:
    script = Path(sys.executable).with_name("backstay")
    ended = subprocess.run([script, "version"], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, backstay.__version__ + "\n")
