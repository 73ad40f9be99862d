"""The gate before a store: a dead store costs a moment, and is asked again by one caller at a time (RL-8)."""

from __future__ import annotations

import logging
import threading
import timeit

import pytest

from backstay.resilience.rate_limiting.gate import Gate
from backstay.testing import ManualClock


def gate(clock: ManualClock, draw: float = 1.0) -> Gate:
    return Gate(
        "store", failures=3, pause=1.0, longest=8.0, clock=clock, uniform=lambda low, high: low + draw * (high - low)
    )


def test_RL8_it_shuts_after_three_failures_in_a_row_only() -> None:
    subject = gate(ManualClock())
    for _ in range(5):
        subject.failed("timeout")
        subject.failed("timeout")
        assert not subject.shut
        subject.passed()
        assert not subject.troubled
    for _ in range(3):
        assert subject.enter()
        subject.failed("timeout")
    assert subject.shut
    assert not subject.enter()


def test_RL8_one_caller_at_a_time_probes_after_the_pause() -> None:
    clock = ManualClock()
    subject = gate(clock)
    for _ in range(3):
        subject.failed("timeout")
    clock.advance(0.999)
    assert not subject.enter()
    clock.advance(0.001)
    assert [subject.enter() for _ in range(50)] == [True] + [False] * 49
    subject.passed()
    assert all(subject.enter() for _ in range(50))


def test_RL8_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    clock = ManualClock()
    subject = gate(clock)
    for _ in range(3):
        subject.failed("timeout")
    for pause in (1.0, 2.0, 4.0, 8.0, 8.0):
        clock.advance(pause - 0.001)
        assert not subject.enter()
        clock.advance(0.001)
        assert subject.enter()
        subject.failed("timeout")
    clock.advance(8.0)
    assert subject.enter()
    subject.passed()
    for _ in range(3):
        subject.failed("timeout")
    clock.advance(1.0)
    assert subject.enter()


def test_RL8_calls_that_were_under_way_do_not_lengthen_the_pause() -> None:
    clock = ManualClock()
    subject = gate(clock)
    for _ in range(1000):
        subject.failed("timeout")
    clock.advance(1.0)
    assert subject.enter()


def test_RL8_a_probe_that_never_comes_back_is_followed_by_another() -> None:
    clock = ManualClock()
    subject = gate(clock)
    for _ in range(3):
        subject.failed("timeout")
    clock.advance(1.0)
    assert subject.enter()
    clock.advance(1.0)
    assert subject.enter()


def test_RL8_jitter_spreads_probes_over_the_upper_half_of_the_pause() -> None:
    clock = ManualClock()
    early, late = gate(clock, draw=0.0), gate(clock, draw=1.0)
    for _ in range(3):
        early.failed("timeout")
        late.failed("timeout")
    clock.advance(0.5)
    assert early.enter()
    assert not late.enter()


def test_RL8_the_kth_call_costs_under_a_microsecond() -> None:
    subject = Gate("store", pause=60.0, longest=60.0)
    for _ in range(3):
        subject.failed("timeout")
    best = min(timeit.repeat(subject.enter, number=10_000, repeat=7)) / 10_000
    assert not subject.enter()
    assert best < 1e-6


def test_of_many_threads_one_probes() -> None:
    clock = ManualClock()
    subject = gate(clock)
    for _ in range(3):
        subject.failed("timeout")
    clock.advance(1.0)
    barrier = threading.Barrier(16)
    passed: list[bool] = []

    def work() -> None:
        barrier.wait()
        passed.append(subject.enter())

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 1


def test_it_tells_the_log_once_when_it_shuts_and_once_when_it_opens(caplog: pytest.LogCaptureFixture) -> None:
    subject = gate(ManualClock())
    with caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        for _ in range(10):
            subject.failed("timeout: no answer")
        subject.passed()
        subject.passed()
    assert [record.getMessage() for record in caplog.records] == [
        "store is left alone after 3 failures in a row: timeout: no answer",
        "store answers again",
    ]
