"""The replica: what may follow what, what is owed, and how fresh it is (SW-1, SW-3, SW-5, SW-6, SW-11)."""

from __future__ import annotations

import pytest

from backstay.errors import Misuse
from backstay.resilience.delivery.envelope import Cursor
from backstay.resilience.delivery.replica import Replica
from backstay.testing import ManualClock
from unit.resilience.delivery.scripted import sealed


def replica(clock: ManualClock | None = None, *, lag: float | None = None) -> Replica:
    return Replica(scope="shop/production", grace=30, lag=lag, clock=clock or ManualClock())


def test_SW3_a_told_version_is_owed_until_it_or_a_later_one_is_applied() -> None:
    held = replica()
    held.applied(sealed(6))
    assert held.told(Cursor(1, 7))
    assert not held.told(Cursor(1, 7))  # twice is no news
    assert not held.told(Cursor(1, 6))
    assert held.told(Cursor(1, 9))
    held.applied(sealed(8))
    assert held.behind
    assert not held.confirmed()
    assert "told of version 1.9 and answers 1.8" in held.problem
    held.applied(sealed(10))
    assert not held.behind
    assert held.confirmed()
    assert held.problem == ""


def test_SW3_a_new_epoch_pays_what_an_old_one_owed() -> None:
    held = replica()
    held.applied(sealed(6))
    held.told(Cursor(1, 7))
    held.applied(sealed(1, epoch=2))
    assert not held.behind
    assert not held.told(Cursor(1, 8))


def test_SW4_a_gap_is_seen() -> None:
    held = replica()
    assert not held.gap(Cursor(1, 5))  # the first is no gap
    held.applied(sealed(6))
    assert not held.gap(Cursor(1, 6))
    assert not held.gap(Cursor(1, 7))
    assert held.gap(Cursor(1, 8))
    assert held.gap(Cursor(2, 1))


def test_SW1_documents_of_another_scope_are_refused() -> None:
    with pytest.raises(Misuse, match="of scope 'other/one', not of 'shop/production'"):
        replica().weigh(sealed(1, scope="other/one"))
    first = Replica(scope=None, grace=30, lag=None, clock=ManualClock())
    first.applied(sealed(1))
    with pytest.raises(Misuse, match="not of 'shop/production'"):
        first.weigh(sealed(2, scope="other/one"))


def test_SW5_the_states_in_their_order() -> None:
    clock = ManualClock()
    held = replica(clock)
    assert held.state() == "starting"
    held.applied(sealed(1))
    held.confirmed()
    assert held.state() == "ready"
    clock.advance(5)
    assert held.failed("no answer")
    assert not held.failed("no answer")  # the same problem is told once
    assert held.state() == "stale"
    clock.advance(25)
    assert held.state() == "stale"
    clock.advance(0.001)
    assert held.state() == "error"
    held.confirmed()
    assert held.state() == "ready"
    held.failed("nonsense", refused=True)
    assert held.state() == "error"  # at once


def test_SW5_nobody_who_looks_is_no_ready() -> None:
    """READY while disconnected: a watcher that died must not look like a healthy one."""
    clock = ManualClock()
    held = replica(clock, lag=60)
    held.confirmed()
    clock.advance(60)
    assert held.state() == "ready"
    clock.advance(0.001)
    assert held.state() == "stale"
    clock.advance(30)
    assert held.state() == "error"


def test_SW6_the_age_is_that_of_the_confirmation_and_not_of_the_change() -> None:
    clock = ManualClock()
    held = replica(clock)
    clock.advance(4)
    assert held.age() == 4  # nothing was ever confirmed
    held.applied(sealed(1))
    held.confirmed()
    clock.advance(3)
    held.failed("no answer")
    assert held.age() == 3
    held.told(Cursor(1, 2))
    held.confirmed()  # a replica behind that answers "nothing newer" confirms nothing
    assert held.age() == 3
    held.applied(sealed(2))
    assert held.age() == 3
    held.confirmed()
    assert held.age() == 0


def test_SW11_what_was_inherited_is_stale_and_kept() -> None:
    held = replica()
    held.applied(sealed(1))
    held.confirmed()
    held.inherited()
    assert held.state() == "stale"
    assert held.held == sealed(1)
    held.confirmed()
    assert held.state() == "ready"


def test_a_document_past_its_end_is_stale() -> None:
    held = replica()
    held.confirmed()
    assert held.ended("good until noon")
    assert not held.ended("good until noon")
    assert (held.state(), held.trouble) == ("stale", "good until noon")
    held.ended("")
    assert held.state() == "ready"
