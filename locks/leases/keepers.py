"""The keepers there are: one for the threads of this process, and one for each event loop."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Any

from backstay.telemetry import announce

from .. import fork
from ..source import ASYNCIO, BLOCKING
from .keeper import Keeper

__all__ = ["announce_keeper", "drop_closed", "keeper", "keeper_of", "loop_keepers"]

keeper = Keeper(BLOCKING)
fork.watch(keeper)
loop_keepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper] = weakref.WeakKeyDictionary()

_announced: set[int] = set()  # the processes whose operators know of the keeper: this one and those before a fork


def announce_keeper() -> None:
    """Put the keeper of this process on telemetry's list of background work; a fork empties that list."""
    if os.getpid() not in _announced:
        _announced.add(os.getpid())
        announce("backstay-locks-keeper", keeper.is_alive)


def keeper_of(loop: asyncio.AbstractEventLoop) -> Keeper:
    """Return the keeper of an event loop, made when it is first asked for."""
    found = loop_keepers.get(loop)
    if found is None:
        drop_closed(loop_keepers)
        found = loop_keepers[loop] = Keeper(ASYNCIO)
        fork.watch(found)
        announce("backstay-locks-keeper-asyncio", found.is_alive)
    return found


def drop_closed(table: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Forget loops that have ended: their connections refer to them, so weak keys alone would keep them."""
    for loop in list(table):
        if loop.is_closed():
            del table[loop]
