"""What a store guarantees, and that less than is required is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.locks import AsyncLocks, Locks
from backstay.locks.levels import LEVELS, Level, checked_level
from backstay.locks.source import source


@pytest.mark.parametrize("face", [Locks, AsyncLocks])
@pytest.mark.parametrize("require", [None, "efficiency", "lease", "fenced"])
def test_what_a_store_gives_may_be_required(face: Any, require: Level | None) -> None:
    face.connect("memory://", require=require)
    face.connect("redis://127.0.0.1:1", require=require)


@pytest.mark.parametrize("face", [Locks, AsyncLocks])
def test_more_than_a_store_gives_is_refused_and_says_what_it_gives(face: Any) -> None:
    with pytest.raises(Misuse, match=r"redis store of locks is 'fenced' .*'transactional' is required"):
        face.connect("redis://127.0.0.1:1", require="transactional")
    with pytest.raises(Misuse, match="require must be one of 'efficiency'"):
        face.connect("memory://", require="safe")


def test_the_levels_rise() -> None:
    order = list(LEVELS)
    assert order == ["efficiency", "lease", "fenced", "transactional"]
    for place, given in enumerate(order):
        for wanted in order[: place + 1]:
            checked_level(wanted, given, "some")
        for wanted in order[place + 1 :]:
            with pytest.raises(Misuse, match=wanted):
                checked_level(wanted, given, "some")


@pytest.mark.parametrize("url", ["memory://", "redis://127.0.0.1:1", "sqlite:///locks.db", "zookeeper://127.0.0.1:1"])
def test_every_store_states_its_level(url: str) -> None:
    assert source(url, "levels", None).guarantee in LEVELS
