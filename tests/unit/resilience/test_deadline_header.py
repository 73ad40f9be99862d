"""The deadline of the work in hand: read, shortened, nested, and sent to the next service."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.timeout import (
    DEADLINE_HEADER,
    DeadlineExceeded,
    deadline,
    deadline_header,
    read_deadline,
    remaining,
    within,
)
from backstay.testing import ManualClock


def test_without_a_deadline_nothing_is_bounded_or_sent() -> None:
    assert remaining() is None
    assert within() is None
    assert within(3.0) == 3.0
    assert deadline_header() == {}


def test_what_remains_shrinks_and_never_goes_below_nothing() -> None:
    clock = ManualClock()
    with deadline(2.0, clock=clock):
        assert remaining(clock=clock) == 2.0
        clock.advance(1.5)
        assert remaining(clock=clock) == 0.5
        assert within(3.0, clock=clock) == 0.5
        assert within(0.25, clock=clock) == 0.25
        assert within(clock=clock) == 0.5
        clock.advance(1.5)
        assert remaining(clock=clock) == 0.0
        with pytest.raises(DeadlineExceeded, match=r"passed 1\.000 s ago"):
            within(3.0, clock=clock)
    assert remaining(clock=clock) is None


def test_the_nearer_deadline_stays_in_force() -> None:
    clock = ManualClock()
    with deadline(2.0, clock=clock):
        with deadline(5.0, clock=clock):
            assert remaining(clock=clock) == 2.0
        with deadline(1.0, clock=clock):
            assert remaining(clock=clock) == 1.0
        assert remaining(clock=clock) == 2.0


def test_a_copied_context_inherits_the_deadline() -> None:
    clock = ManualClock()
    with deadline(2.0, clock=clock):
        copied = contextvars.copy_context()
    assert copied.run(remaining, clock=clock) == 2.0


def test_a_deadline_crosses_to_another_clock_as_a_duration() -> None:
    here, there = ManualClock(5.0), ManualClock(90_000.0)
    with deadline(1.2345, clock=here):
        sent = deadline_header(clock=here)
    assert sent == {DEADLINE_HEADER: "1234"}  # rounded down: nobody works longer than he is waited for
    received = read_deadline(sent)
    assert received == 1.234
    with deadline(received, clock=there):
        assert remaining(clock=there) == pytest.approx(1.234)


def test_a_deadline_that_has_passed_is_sent_as_nothing_left() -> None:
    clock = ManualClock()
    with deadline(1.0, clock=clock):
        clock.advance(3.0)
        assert read_deadline(deadline_header(clock=clock)) == 0.0


@pytest.mark.parametrize(
    "text", ["", "-5", "1.5", "soon", "1e3", "²", "٣", "9" * 13, "0x10", "1_000", "nan", "inf", "\n"]
)
def test_what_a_stranger_sends_is_ignored_unless_it_is_a_number(text: str) -> None:
    assert read_deadline({DEADLINE_HEADER: text}) is None


def test_a_stranger_gets_no_more_than_the_longest() -> None:
    assert read_deadline({}) is None
    assert read_deadline({DEADLINE_HEADER: "999999999999"}, longest=30.0) == 30.0
    assert read_deadline({DEADLINE_HEADER: " 250 "}) == 0.25


@pytest.mark.parametrize("seconds", [-1, float("nan"), "2", None, True])
def test_a_deadline_is_a_duration(seconds: Any) -> None:
    with pytest.raises(Misuse, match="deadline must be"):
        deadline(seconds)
