from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from backstay.clock import monotonic, monotonic_ns
from backstay.errors import Misuse
from backstay.testing import ManualClock


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    """It must be CLOCK_BOOTTIME where that exists; nobody suspends the machine for a test."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    reference = time.monotonic if boottime is None else lambda: time.clock_gettime(boottime)
    assert 0 <= monotonic() - reference() + 1e-3 < 1.0
    assert abs(monotonic_ns() / 1e9 - monotonic()) < 1.0


def test_the_clock_never_goes_back() -> None:
    readings = [monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_a_platform_without_boottime_uses_monotonic() -> None:
    code = """
import time
if hasattr(time, "CLOCK_BOOTTIME"):
    del time.CLOCK_BOOTTIME
import backstay.clock
assert backstay.clock.monotonic.__defaults__ == (time.clock_gettime, time.CLOCK_MONOTONIC)
assert backstay.clock.monotonic_ns.__defaults__ == (time.clock_gettime_ns, time.CLOCK_MONOTONIC)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    assert (clock(), clock.now(), clock.now_ns()) == (5.0, 5.0, 5_000_000_000)
    assert clock.advance(1.5) == 6.5
    assert clock() == 6.5
    assert repr(clock) == "ManualClock(6.5)"


def test_a_manual_clock_adds_without_drift() -> None:
    clock = ManualClock(0)
    for _ in range(10_000):
        clock.advance(0.0001)
    assert clock() == 1.0


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), -1])
def test_a_manual_clock_refuses_to_go_back(seconds: float) -> None:
    clock = ManualClock()
    with pytest.raises(Misuse, match="forward only"):
        clock.advance(seconds)
    assert clock() == 1000.0


def test_threads_may_advance_a_manual_clock_together() -> None:
    clock = ManualClock(0)
    threads = [threading.Thread(target=lambda: [clock.advance(0.001) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 2.0
