"""Who of a process may ask PostgreSQL, which cannot tell two holders of one session apart; pure, no server."""

from __future__ import annotations

import pytest

from backstay.errors import Misuse
from backstay.locks import Locks
from backstay.locks.backend import ALIVE, TOMBSTONE
from backstay.locks.backends.advisory import key_of
from backstay.locks.backends.advisory.gate import Gate, Holder
from backstay.locks.claims import MUTEX, READ, WRITE, Resource

NAME, KEY, NOW = Resource("order:42"), 7, 100.0
FIXED = 2768332182979680555


def test_a_session_that_may_lock_twice_is_asked_once() -> None:
    gate = Gate()
    assert gate.admits(KEY, "a", MUTEX, NOW)
    gate.hold(KEY, "a", Holder(NAME, MUTEX.units, 1, NOW))
    assert not gate.admits(KEY, "b", MUTEX, NOW)
    assert gate.admits(KEY + 1, "b", MUTEX, NOW)
    assert gate.drop(KEY, "a") is not None
    assert gate.drop(KEY, "a") is None
    assert gate.admits(KEY, "b", MUTEX, NOW)


def test_Q5_first_come_first_served_within_a_process() -> None:
    gate = Gate()
    gate.hold(KEY, "r1", Holder(NAME, READ.units, 1, NOW))
    assert gate.queue(KEY, "w", NAME, WRITE, NOW) == 0
    assert gate.queue(KEY, "r2", NAME, READ, NOW) == 1
    assert not gate.admits(KEY, "r2", READ, NOW), "it would fit beside the reader, but a writer came before"
    assert not gate.admits(KEY, "r3", READ, NOW)
    gate.drop(KEY, "r1")
    assert gate.admits(KEY, "w", WRITE, NOW)
    assert not gate.admits(KEY, "r2", READ, NOW)


def test_Q2_one_that_is_not_heard_of_is_passed_over() -> None:
    gate = Gate()
    gate.queue(KEY, "dead", NAME, MUTEX, NOW)
    gate.queue(KEY, "b", NAME, MUTEX, NOW)
    assert not gate.admits(KEY, "b", MUTEX, NOW + ALIVE)
    gate.queue(KEY, "b", NAME, MUTEX, NOW + ALIVE)
    assert gate.admits(KEY, "b", MUTEX, NOW + ALIVE + 0.1)


def test_C9_a_token_that_was_given_up_is_refused_for_a_while() -> None:
    gate = Gate()
    gate.give_up("a", NOW)
    assert gate.is_gone("a", NOW + TOMBSTONE - 0.1)
    assert not gate.is_gone("a", NOW + TOMBSTONE)


def test_Z5_the_end_of_the_session_forgets_grants_and_keeps_who_waits() -> None:
    gate = Gate()
    gate.hold(KEY, "a", Holder(NAME, MUTEX.units, 1, NOW))
    gate.queue(KEY, "b", NAME, MUTEX, NOW)
    gate.ended()
    assert gate.lane(KEY).holders == {}
    assert list(gate.lane(KEY).queue) == ["b"]
    assert gate.admits(KEY, "b", MUTEX, NOW)


def test_E5_the_number_of_a_name_is_fixed_for_ever() -> None:
    assert key_of("shop", NAME) == FIXED
    assert key_of("shop", Resource("order:42", "read-write lock")) != FIXED
    assert key_of("other", NAME) != FIXED


def test_only_postgresql_has_them_and_they_cannot_be_counted() -> None:
    with pytest.raises(Misuse, match="no lock backend for"):
        Locks.connect("advisory+sqlite:///x.db")
    with Locks.connect("advisory+postgresql+psycopg://me@127.0.0.1:1/x", answer_within=0.2) as locks:
        with pytest.raises(Misuse):
            locks.semaphore("gpu", permits=2, wait=0).acquire()
