"""docker/engine.sh: nothing to do where an engine answers; elsewhere it starts one over whatever the last one left.

A second real daemon cannot run beside the first one in one network namespace, so `docker` and `dockerd` are stand-ins
here, except in the first test: the daemon refuses to start while its pid file names any process, as the real one does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "docker" / "engine.sh"

DOCKER = """#!/bin/bash
case $1 in
version)
    [ -e "$BACKSTAY_ENGINE_DIR/serves" ] && # a killed one is a zombie until somebody collects it
        grep -q "^State:.[^Z]" "/proc/$(cat "$BACKSTAY_ENGINE_DIR/docker.pid")/status" ;;
info) echo "${STAND_IN_DRIVER:-overlay2}" ;;
esac
"""
DOCKERD = """#!/bin/bash
pidfile=$BACKSTAY_ENGINE_DIR/docker.pid
if [ -e "$pidfile" ] && [ -d "/proc/$(cat "$pidfile")" ]; then
    echo "pid file found, ensure docker is not running or delete $pidfile" >&2
    exit 1
fi
echo $$ > "$pidfile"
echo started >> "$BACKSTAY_ENGINE_DIR/starts"
[ -z "${STAND_IN_HANGS:-}" ] && touch "$BACKSTAY_ENGINE_DIR/serves"
while true; do sleep 0.1; done
"""


class Machine:
    """A scratch machine: its own run directory, a Debian, root, and stand-ins for docker and dockerd on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "bin"
        self.tools.mkdir()
        self.tool("docker", DOCKER)
        self.tool("dockerd", DOCKERD)
        self.tool("id", "#!/bin/sh\necho 0\n")
        (folder / "os-release").write_text("ID=debian\n")
        self.pid_file = folder / "docker.pid"

    def tool(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "BACKSTAY_ENGINE_DIR": str(self.folder),
            "BACKSTAY_OS_RELEASE": str(self.folder / "os-release"),
            "BACKSTAY_ENGINE_WAIT": "2",
            **more,
        }

    def run(self, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT)], env=self.environment(**more), capture_output=True, text=True, timeout=60, check=False
        )

    def wait_for_pid(self) -> None:
        end = time.monotonic() + 10
        while not self.pid_file.exists() or not self.pid_file.read_text():
            assert time.monotonic() < end, "the stand-in does not start"
            time.sleep(0.01)

    @property
    def starts(self) -> int:
        noted = self.folder / "starts"
        return len(noted.read_text().split()) if noted.exists() else 0

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    if machine.starts and Path(f"/proc/{machine.pid}/comm").exists():
        os.kill(machine.pid, signal.SIGKILL)


def test_it_does_nothing_and_at_once_where_an_engine_answers(redis_url: str) -> None:
    assert redis_url
    start = time.monotonic()
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - start < 5


def test_it_starts_the_daemon_once_and_leaves_it_running(machine: Machine) -> None:
    assert machine.run().returncode == 0
    assert machine.run().returncode == 0
    assert machine.starts == 1
    assert Path(f"/proc/{machine.pid}/comm").read_text().strip() == "dockerd"
    assert os.getsid(machine.pid) == machine.pid, "it must outlive the terminal it was started from"


def test_two_at_once_start_one_daemon(machine: Machine) -> None:
    both = [subprocess.Popen([str(SCRIPT)], env=machine.environment()) for _ in range(2)]
    assert [one.wait(30) for one in both] == [0, 0]
    assert machine.starts == 1


def test_it_recovers_from_a_killed_daemon(machine: Machine) -> None:
    machine.run()
    os.kill(machine.pid, signal.SIGKILL)
    (machine.folder / "exec" / "containerd").mkdir(parents=True)
    (machine.folder / "exec" / "containerd" / "containerd.pid").write_text("1")
    (machine.folder / "exec" / "containerd" / "containerd.sock").touch()
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.starts == 2
    assert list((machine.folder / "exec" / "containerd").iterdir()) == []


def test_a_reused_pid_belongs_to_a_stranger_who_is_left_alone(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            machine.pid_file.write_text(str(stranger.pid))
            done = machine.run()
            assert done.returncode == 0, done.stderr
            assert machine.starts == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_zombie_in_the_pid_file_is_dead(machine: Machine) -> None:
    zombie = subprocess.Popen([str(machine.tools / "dockerd")], env=machine.environment())
    try:
        machine.wait_for_pid()
        os.kill(zombie.pid, signal.SIGKILL)
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody collected it
        (machine.folder / "serves").unlink(missing_ok=True)
        assert machine.run().returncode == 0
        assert machine.pid != zombie.pid
    finally:
        zombie.wait()


def test_a_daemon_that_hangs_is_replaced_after_the_wait(machine: Machine) -> None:
    hanging = subprocess.Popen([str(machine.tools / "dockerd")], env=machine.environment(STAND_IN_HANGS="1"))
    machine.wait_for_pid()
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert hanging.wait(10) == -signal.SIGTERM
    assert machine.starts == 2


def test_a_daemon_that_ends_at_once_is_told_with_its_last_line(machine: Machine) -> None:
    machine.tool("dockerd", "#!/bin/sh\necho 'failed to load the listeners' >&2\nexit 1\n")
    done = machine.run()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "dockerd does not answer" in done.stderr
    assert "failed to load the listeners" in done.stderr


def test_a_slow_storage_driver_is_told(machine: Machine) -> None:
    done = machine.run(STAND_IN_DRIVER="vfs")
    assert done.returncode == 0
    assert "vfs" in done.stderr


@pytest.mark.parametrize("case", ["not debian", "not root"])
def test_where_it_cannot_it_says_so_in_one_line(machine: Machine, case: str) -> None:
    if case == "not debian":
        (machine.folder / "os-release").write_text("ID=fedora\n")
    else:
        machine.tool("id", "#!/bin/sh\necho 1000\n")
    done = machine.run()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("docker/engine.sh: no Docker engine answers")
    assert ("Debian" if case == "not debian" else "root") in done.stderr
    assert machine.starts == 0
