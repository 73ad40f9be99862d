"""The tutorial of the first switch, followed command by command in an empty folder, as a new user would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.resilience.switch_replicas import free_port
from snippets import ROOT

TUTORIAL = ROOT / "docs" / "tutorial" / "first-switch.md"
PORTS = ("8321", "8000")
"""The service's and the app's, as the tutorial writes them."""


class Desk:
    """A user's folder, windows and environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.environment["BACKSTAY_SWITCHES_URL"] = f"http://127.0.0.1:{self.ports['8321']}"
        self.environment["PYTHONPATH"] = f"{ROOT}:{folder}"
        self.windows: list[subprocess.Popen[str]] = []
        self.token = ""

    def here(self, text: str) -> str:
        for written, real in self.ports.items():
            text = text.replace(written, real)
        return text

    def do(self, command: str, expected: str) -> None:
        words = shlex.split(command)
        if words[0] == "pip":
            return  # it is installed
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environment[name] = self.token if value.startswith("bst_") else value
        elif command == "backstay switches serve":
            shown = self.begin([*words, "--port", self.ports["8321"]], "serving on")
            self.token = re.findall(r"bst_\S+", shown)[0]
            self.answers(self.ports["8321"])
        elif words[0] == "uvicorn":
            self.begin([*shlex.split(self.here(command)), "--no-access-log"], "Uvicorn running on")
        elif words[0] == "curl":
            began = time.monotonic()
            while (told := self.fetch(words[-1])) != expected:
                assert time.monotonic() - began < 1.0, f"after a second the app still says {told}, not {expected}"
        else:
            told = self.run(words)
            if expected.startswith("bst_"):
                self.token = told
            else:
                assert told == expected or not expected

    def run(self, words: list[str]) -> str:
        command = [self.here(word) for word in words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def begin(self, command: list[str], sign: str) -> str:
        window = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.windows.append(window)
        assert window.stdout is not None
        shown = ""
        while sign not in shown:
            line = window.stdout.readline()
            assert line, shown
            shown += line
        return shown

    def answers(self, port: str) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                assert "true" in self.fetch(f"http://127.0.0.1:{port}/healthz")
                return
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)

    def fetch(self, url: str) -> str:
        with urllib.request.urlopen(self.here(url), timeout=10) as answer:
            return str(answer.read().decode()).strip()

    def close(self) -> None:
        for window in reversed(self.windows):
            window.kill()
            window.wait(10)
            assert window.stdout is not None
            window.stdout.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def steps(text: str) -> Iterator[tuple[str, str, str]]:
    """Each file that is written, and each command with what it prints, in order."""
    for kind, body in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "python":
            yield "file", body.splitlines()[0].removeprefix("# "), body
        else:
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield "command", command, output.strip()


def test_a_new_user_gets_a_working_switch_by_following_the_tutorial(desk: Desk) -> None:
    done = 0
    for kind, name, text in steps(TUTORIAL.read_text()):
        if kind == "file":
            (desk.folder / name).write_text(desk.here(text))
        else:
            desk.do(name, text)
        done += 1
    assert done > 10
    service = desk.windows[0]
    service.kill()
    service.wait(10)
    told = desk.fetch("http://127.0.0.1:8000/home")
    assert "Ada's favourite" in told, "the app goes on with what it had"
