"""The scripts of this folder; a token's attempts are numbered, and `LAST` is above all numbers."""

from __future__ import annotations

from functools import partial

from backstay.locks.backends.redis.scripts import load

__all__ = ["CONFIRM", "GIVE_BACK", "LAST", "LOOK", "RENEW", "TAKE"]

LAST = 2**53 - 1  # numbers of Lua are exact up to here

_load = partial(load, package="backstay.locks.backends.quorum")

TAKE, CONFIRM, RENEW = _load("take"), _load("confirm"), _load("renew")
GIVE_BACK, LOOK = _load("give_back"), _load("look")
