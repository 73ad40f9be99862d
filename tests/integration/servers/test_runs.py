"""A run's servers: shared by its workers, gone with it however it ends, replaced by those that a variable names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import PARTS, Run

if TYPE_CHECKING:
    from servers.server import Server

# Each test here starts a whole pytest, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).resolve().parents[3]

NOTES_THE_SERVER = """
import json, os, time
from pathlib import Path

def test_note(redis_server, server_run):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    note = {"url": redis_server.url, "run": str(server_run.directory)}
    Path(__file__).with_name(f"{worker}.new").write_text(json.dumps(note))
    Path(__file__).with_name(f"{worker}.new").rename(Path(__file__).with_name(f"{worker}.json"))
"""
STAYS = NOTES_THE_SERVER + "    time.sleep(100)\n"


def start_pytest(folder: Path, test: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    """A pytest of its own over one test, with this project's fixtures and settings."""
    (folder / "test_inner.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", *options, str(folder / "test_inner.py")]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BACKSTAY_TEST"))}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT / "tests"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill(inner: subprocess.Popen[str]) -> None:
    inner.kill()
    inner.wait()
    assert inner.stdout is not None
    inner.stdout.close()  # its workers, who hold the other end, go a few seconds later


def notes(
    folder: Path, workers: tuple[str, ...], inner: subprocess.Popen[str] | None = None
) -> list[Mapping[str, str]]:
    """What the workers noted, once all have."""
    files = [folder / f"{worker}.json" for worker in workers]
    wait_until(lambda: all(file.exists() for file in files) or (inner is not None and inner.poll() is not None))
    return [json.loads(file.read_text()) for file in files]


def wait_until(is_so: Callable[[], bool], limit: float = 90.0) -> None:
    end = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < end, f"not so after {limit:g} s"
        time.sleep(0.05)


def containers_of(run: str) -> list[str]:
    command = ["docker", "ps", "-aq", "--no-trunc", "--filter", f"label=backstay.run={run}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_two_workers_share_one_server_and_nothing_is_left_afterwards(tmp_path: Path) -> None:
    inner = start_pytest(tmp_path, NOTES_THE_SERVER, "-n", "2", "--dist", "each")
    output, _ = inner.communicate(timeout=120)
    assert inner.returncode == 0, output
    first, second = notes(tmp_path, ("gw0", "gw1"))
    assert first == second
    assert containers_of(first["run"]) == []
    assert not Path(first["run"]).exists()


@pytest.mark.parametrize("workers", [("alone",), ("gw0", "gw1")])
def test_a_killed_run_leaves_no_container(tmp_path: Path, workers: tuple[str, ...]) -> None:
    options = () if workers == ("alone",) else ("-n", "2", "--dist", "each")
    inner = start_pytest(tmp_path, STAYS, *options)
    run = notes(tmp_path, workers, inner)[0]["run"]
    assert len(containers_of(run)) == 1
    kill(inner)
    wait_until(lambda: containers_of(run) == [] and not Path(run).exists())


def test_the_next_run_removes_what_a_killed_run_and_its_killed_watchdog_left(tmp_path: Path) -> None:
    inner = start_pytest(tmp_path, STAYS)
    run = notes(tmp_path, ("alone",), inner)[0]["run"]
    os.kill(watchdog_of(run), signal.SIGKILL)
    kill(inner)
    assert len(containers_of(run)) == 1
    following = Run.begin()
    try:
        following.own(PARTS["redis"])
        assert containers_of(run) == []
        assert not Path(run).exists()
        assert len(containers_of(str(following.directory))) == 1
    finally:
        following.end()
    assert containers_of(str(following.directory)) == []


def watchdog_of(run: str) -> int:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text().split("\0")
        except OSError:
            continue  # it has just ended
        if run in words and any(word.endswith("watchdog.py") for word in words):
            return int(entry.parent.name)
    raise AssertionError(f"no watchdog of {run}")


def test_a_living_run_is_left_alone_by_the_next_one(server_run: Run, own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    following = Run.begin()
    try:
        following.own(PARTS["redis"])
        assert server.id in containers_of(str(server_run.directory))
    finally:
        following.end()
    assert server.id in containers_of(str(server_run.directory))


NO_ENGINE = "unix:///nowhere/docker.sock"

USES_THE_VARIABLE = """
import os
import pytest
import redis
from servers import NotOurs

def test_variable(redis_server, redis_url):
    assert redis_server.url == os.environ["BACKSTAY_TEST_REDIS_URL"]
    assert redis.Redis.from_url(redis_url).get("there") is None
    with pytest.raises(NotOurs, match="BACKSTAY_TEST_REDIS_URL"):
        redis_server.kill()
"""


def test_a_variable_points_the_fixtures_at_a_running_server_and_no_engine_is_needed(
    tmp_path: Path, own_redis: Callable[[], Server]
) -> None:
    server = own_redis()
    server.run("redis-cli", "set", "there", "1")
    inner = start_pytest(tmp_path, USES_THE_VARIABLE, BACKSTAY_TEST_REDIS_URL=server.url, DOCKER_HOST=NO_ENGINE)
    output, _ = inner.communicate(timeout=120)
    assert inner.returncode == 0, output
    assert "1 passed" in output


def test_a_server_that_cannot_start_is_an_error_and_never_a_skip(tmp_path: Path) -> None:
    inner = start_pytest(tmp_path, NOTES_THE_SERVER, DOCKER_HOST=NO_ENGINE)
    output, _ = inner.communicate(timeout=120)
    assert inner.returncode == 1, output
    assert "1 error" in output
    assert "skipped" not in output
    assert f"DOCKER_HOST is {NO_ENGINE}, but no engine answers there" in output


def test_servers_from_the_shell_last_as_long_as_standard_input(tmp_path: Path) -> None:
    shell = subprocess.Popen(
        [sys.executable, "-m", "servers", "up", "--parts", "redis"],
        cwd=ROOT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with shell:
        assert shell.stdout is not None
        url = json.loads(shell.stdout.readline())["redis"]
        port = url.rpartition(":")[2].partition("/")[0]
        published = ["docker", "ps", "-q", "--filter", f"publish={port}"]
        assert len(subprocess.run(published, capture_output=True, check=True).stdout.split()) == 1
        assert shell.stdin is not None
        shell.stdin.close()
        assert shell.wait(timeout=30) == 0
        assert subprocess.run(published, capture_output=True, check=True).stdout == b""


def test_an_unknown_part_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "servers", "up", "--parts", "redis,oracle"],
        cwd=ROOT / "tests",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "no such server: oracle; there are redis, postgres, mariadb, zookeeper"
