"""The arithmetic and the state table of leases: no I/O, no clock."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, strategies as st

from backstay.errors import BackstayError, OutcomeUnknown, Rejected, Unavailable
from backstay.locks import LockLost
from backstay.locks.claims import Resource
from backstay.locks.leases.lease import DRIFT, MOVES, Grant, State, deadline, first_renewal, next_renewal, started

TTL = st.floats(0.001, 86400.0)
MOMENT = st.floats(0.0, 1e9)
CHANCE = st.floats(0.0, 1.0)


def grant(until: float = 10.0) -> Grant:
    return Grant(Resource("order:7"), "host-1-x-1", 7, 10.0, until, 0.0, True)


@given(sent=MOMENT, ttl=TTL)
def test_C4_deadline_counts_from_before_sending_less_the_margin(sent: float, ttl: float) -> None:
    assert deadline(sent, ttl) <= sent + ttl
    assert deadline(sent, ttl) == pytest.approx(sent + ttl * (1 - DRIFT))


@given(sent=st.floats(0.0, 1e6), ttl=TTL, rate=st.floats(1 - DRIFT, 1 / (1 - DRIFT)))
def test_T4_a_server_whose_clock_is_within_the_margin_ends_later(sent: float, ttl: float, rate: float) -> None:
    """The server counts ttl from an arrival no earlier than `sent`; its clock runs at `rate` of the holder's."""
    assert sent + ttl / rate >= deadline(sent, ttl) - 1e-6


@given(queued=MOMENT, elapsed=st.floats(0.0, 1e4), delay=st.floats(0.0, 1e3), there=MOMENT)
def test_C4_a_lease_handed_over_starts_no_later_than_the_grant(
    queued: float, elapsed: float, delay: float, there: float
) -> None:
    """The store answered the queueing request after it was sent, so the grant was at or after `queued + elapsed`."""
    start = started(queued, there, there + elapsed, queued + elapsed + delay)
    assert start <= queued + elapsed + 1e-3
    assert start <= queued + elapsed + delay


def test_C4_a_server_clock_set_back_only_shortens_the_lease() -> None:
    assert started(100.0, 5000.0, 1000.0, 103.0) == 100.0


@given(sent=MOMENT, ttl=TTL, chance=CHANCE)
def test_N1_first_renewal_is_at_a_third_of_the_ttl_jittered(sent: float, ttl: float, chance: float) -> None:
    at = first_renewal(sent, ttl, chance) - sent
    assert ttl * 0.299 <= at + 1e-6
    assert at <= ttl / 3 + 1e-6


@given(now=MOMENT, ttl=TTL, failures=st.integers(1, 60), chance=CHANCE)
def test_N2_retries_back_off_and_leave_room_for_several(now: float, ttl: float, failures: int, chance: float) -> None:
    pause = next_renewal(now, ttl, failures, chance) - now
    assert 0 < pause + 1e-6
    assert pause <= max(ttl / 6, 0.05) + 1e-6


@pytest.mark.parametrize(("before", "to"), list(product(State, State)))
def test_every_move_is_the_tables(before: State, to: State) -> None:
    it = grant()
    it.state = before
    assert it.move(to) is (to in MOVES[before])
    assert it.state is (to if to in MOVES[before] else before)


def test_the_table_has_no_way_back_and_two_ends() -> None:
    assert MOVES[State.RELEASED] == MOVES[State.LOST] == frozenset()
    assert all(State.HELD not in after for after in MOVES.values())
    assert set(MOVES) == set(State)


def test_C3_validity_is_computed_from_the_clock() -> None:
    it = grant(until=10.0)
    assert it.valid(9.999)
    assert not it.valid(10.0)
    it.move(State.RELEASING)
    assert not it.valid(1.0)


def test_R7_a_renewal_never_moves_the_deadline_back() -> None:
    it = grant(until=50.0)
    it.failures = 3
    it.extended(sent=10.0, ttl=10.0)
    assert (it.deadline, it.failures) == (50.0, 0)
    it.extended(sent=45.0, ttl=10.0)
    assert it.deadline == deadline(45.0, 10.0)


@pytest.mark.parametrize("reason", ["expired", "taken", "forked", "closed"])
def test_C2_a_loss_names_lock_fence_and_reason_and_is_neither_refusal_nor_doubt(reason: str) -> None:
    it = grant()
    it.move(State.LOST, reason)
    error = it.lost(0.0)
    assert (error.lock, error.fence, error.reason) == ("order:7", 7, reason)
    assert "'order:7'" in str(error)
    assert "fence" in str(error)
    assert not isinstance(error, (Rejected, Unavailable, OutcomeUnknown))
    assert LockLost.__bases__ == (BackstayError,)
