"""Which call may be the trial call of a half-open breaker: one at a time, on a lease.

In a process it is a permit that ends with the call, whichever way, or when the lease runs out (CB-5). Where the state
is shared by `CircuitRedisStorage`, a key beside pybreaker's four keeps other processes from trying as well; a
pybreaker that shares the state does not know the key, and goes on trying as it always did.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

import pybreaker

from backstay.clock import Clock

from ..circuit_breaker.settings import BreakerSettings
from ..circuit_breaker.stays import Probing

__all__ = ["Trial", "shared_trial_of"]

logger = logging.getLogger("backstay.resilience")


class SharedTrial:
    """The key `<namespace>:pybreaker:probe`: SET NX PX with a token; Redis out of reach leaves the process alone."""

    def __init__(self, storage: Any, lease: float) -> None:
        self._redis = storage._redis  # the client is not offered otherwise
        self._key: str = storage._namespace("probe")
        self._milliseconds = max(1, round(lease * 1000))

    def take(self) -> str | None:
        """Return a token, or None if another process has the trial call."""
        token = secrets.token_hex(8)
        try:
            return token if self._redis.set(self._key, token, nx=True, px=self._milliseconds) else None
        except Exception:
            logger.exception("the trial call of %r is not shared: no answer from Redis", self._key)
            return token

    def give_back(self, token: str) -> None:
        """Free the trial call, if it is still this one."""
        try:
            # Between the two the lease may run out and another process take the key: then two trial calls run.
            if self._redis.get(self._key) in (token, token.encode()):
                self._redis.delete(self._key)
        except Exception:  # the key ends by itself
            logger.exception("the trial call of %r is freed late: no answer from Redis", self._key)


def shared_trial_of(storage: Any, lease: float) -> SharedTrial | None:
    """Return what shares the trial call over processes, where the storage is pybreaker's own for Redis."""
    return SharedTrial(storage, lease) if isinstance(storage, pybreaker.CircuitRedisStorage) else None


class Trial:
    """The permits of one half-open state: one at a time."""

    __slots__ = ("_clock", "_permits", "_shared", "_tokens")

    def __init__(self, lease: float, clock: Clock, shared: SharedTrial | None) -> None:
        self._permits = Probing(BreakerSettings(probes=1, consecutive=1, probe_lease=lease), 1)
        self._clock = clock
        self._shared = shared
        self._tokens: dict[object, str] = {}

    def take(self) -> object | None:
        """Return a permit, or None while a trial call is under way. Called under the breaker's lock."""
        permit = self._permits.take(self._clock())
        if permit is None or self._shared is None:
            return permit
        token = self._shared.take()
        if token is None:
            self._permits.give_back(permit)
            return None
        self._tokens[permit] = token
        return permit

    def give_back(self, permit: object) -> bool:
        """Take a permit back; False if its lease had run out. Takes no lock: a collector may call it."""
        token = self._tokens.pop(permit, None)
        if token is not None and self._shared is not None:
            self._shared.give_back(token)
        return self._permits.leases.pop(permit, None) is not None

    def forget(self) -> None:
        """Drop all permits: in a forked child, where the calls of the parent do not end."""
        self._permits.leases.clear()
