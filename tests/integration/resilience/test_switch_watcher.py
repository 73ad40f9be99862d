"""The thread that keeps switches fresh, as it really runs: changes, broken sources, forks (SW-11)."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from backstay.resilience import Switches
from backstay.resilience.switches import Document
from backstay.telemetry import background
from unit.resilience.test_switches import replace, toml


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "switches.toml"
    replace(path, toml(recommendations=True, catalogue=False))
    return path


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Wait for the watcher's thread, which really runs here."""
    until = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        event.wait(0.005)
    return True


def test_the_watcher_applies_a_change_by_itself(path: Path) -> None:
    switches = Switches.connect(path, interval=0.02)
    assert any(entry.name == "backstay-switches" and entry.alive for entry in background())
    replace(path, toml(recommendations=False, catalogue=True))
    assert wait_for(lambda: switches.enabled("catalogue"))
    assert not switches.enabled("recommendations")


def test_the_watcher_survives_a_source_that_raises_and_keeps_serving_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name, kind = "broken://", "broken"
        polls = 0

        def poll(self) -> Document | None:
            self.polls += 1
            if self.polls == 1:
                return Document(switches={})
            raise RuntimeError("a bug of a source")

    with caplog.at_level(logging.ERROR, logger="backstay.resilience"):
        broken = Broken()
        kept = Switches(broken, interval=0.01)
        switches = Switches.connect(path, interval=0.02)
        assert wait_for(lambda: broken.polls > 3)
        replace(path, toml(catalogue=True))
        assert wait_for(lambda: switches.enabled("catalogue"))
    assert kept.status().version == 1
    assert "a bug of a source" in caplog.text


def test_the_watcher_keeps_nobody_alive(path: Path) -> None:
    switches = Switches.connect(path, interval=0.02)
    gone = weakref.ref(switches)
    del switches

    def collected() -> bool:
        gc.collect()
        return gone() is None

    assert wait_for(collected)


def test_SW11_a_forked_child_goes_on_watching(path: Path) -> None:
    switches = Switches.connect(path, interval=0.02)
    slow = Switches.connect(path, interval=3600.0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kept = not slow.enabled("catalogue")
            confirmed = wait_for(lambda: slow.status().state == "ready")  # at once, not in an hour
            replace(path, toml(recommendations=True, catalogue=True))
            fresh = wait_for(lambda: switches.enabled("catalogue"))
            listed = any(entry.name == "backstay-switches" and entry.alive for entry in background())
            status = 0 if kept and confirmed and fresh and listed else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
