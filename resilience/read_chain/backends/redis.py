"""Answers on Redis, shared by any number of processes: one server, those of Sentinel, or a Cluster."""

from __future__ import annotations

import asyncio
import hashlib
import re
import weakref
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeAlias

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, Unavailable
from backstay.redis import (
    ClusterRoute,
    Place,
    Redirected,
    Route,
    SentinelRoute,
    Shape,
    asyncio_exchange,
    blocking_exchange,
    refused,
    target,
)

from ...forks import renew_in_child
from ..backend import Looked
from ..settings import RedisTier
from .lines import BlockingLines, Lines, LoopLines

__all__ = ["AsyncRedisShared", "RedisShared"]

_Arguments: TypeAlias = Callable[[Place | None], tuple[Any, ...]]

_NAME = re.compile(r"[^\s{}:]{1,100}")
_LONGEST_KEY = 200
_STEP = 10_000  # us that two clocks may differ over one exchange without one of them having been set


class _Script:
    """A script by its text, and by the name that Redis gives it."""

    def __init__(self, file: str) -> None:
        self.text = resources.files(__name__.rpartition(".")[0]).joinpath(file).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_LOOK, _KEEP = _Script("look.lua"), _Script("keep.lua")


class _Cache:
    """What both makes have: names, arguments, and what is known of the servers' clocks."""

    def __init__(self, name: str, tier: RedisTier, absent_for: float, clock: Clock = monotonic) -> None:
        for what, text in (("name of a read chain with a redis tier", name), ("redis: namespace", tier.namespace)):
            given: Any = text
            if not isinstance(given, str) or not _NAME.fullmatch(given):
                raise Misuse(f"{what} must be 1 to 100 characters without spaces, ':', '{{', '}}'; got {text!r}")
        self.target = target(tier.store)
        self._prefix = f"backstay:{tier.namespace}:read:1:{{{name}:"
        fresh = round(tier.fresh * 1_000_000)
        self._fresh = fresh, min(fresh, round(absent_for * 1_000_000))
        self._lease = max(1, round(tier.refill_lease * 1000))
        self._clock = clock
        self._heard: dict[Place | None, tuple[int, float]] = {}
        """A server's microseconds, and the local moment at which they had come, by server."""
        self._back: dict[Place | None, tuple[int, float]] = {}
        """By how much a server's clock was set back, and until when answers from before that may be there."""
        self._outlived = tier.max_stale

    async def look(self, key: str, timeout: float, *, claims: bool) -> Looked:
        """See `Shared.look`."""
        lease = self._lease if claims else 0

        def arguments(place: Place | None) -> tuple[Any, ...]:
            return (*self._fresh, lease)

        reply = await self._run(_LOOK, key, arguments, timeout)
        data, now, refilling = reply
        return Looked(data=data, now_us=now, refilling=bool(refilling))

    async def keep(self, key: str, packed: bytes, began: float | None, timeout: float, *, lives: float) -> bool:
        """See `Shared.keep`."""

        def arguments(place: Place | None) -> tuple[Any, ...]:
            if began is None:
                return 0, "", max(1, round(lives * 1000)), packed
            now, heard = self._clock(), self._heard.get(place)
            # When it had come the server's time was at least what it said: the moment errs towards the past.
            told = "" if heard is None else round(heard[0] + (began - heard[1]) * 1_000_000)
            return max(0, round((now - began) * 1_000_000)), told, max(1, round(lives * 1000)), packed

        reply = await self._run(_KEEP, key, arguments, timeout)
        return bool(reply[0])

    def names(self, key: str) -> tuple[str, str]:
        """Return the names on the server of an answer, and of the claim on its refill."""
        if len(key) > _LONGEST_KEY or not key.isprintable():
            key = "#" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        key = key.replace("%", "%25").replace("}", "%7D")  # the first closing brace ends the hash tag
        return f"{self._prefix}{key}}}", f"{self._prefix}{key}}}:refill"

    async def _run(self, script: _Script, key: str, arguments: _Arguments, timeout: float) -> Any:
        until = self._clock() + timeout
        names = self.names(key)
        route, lines = self._way()
        place = None if route is None else await route.place(names[0], timeout)
        settings = self.target.settings if place is None else self.target.settings.at(*place)
        by_name: tuple[Any, ...] = ("EVALSHA", script.sha)
        while True:
            command = (*by_name, 2, *names, *arguments(place))
            sent = self._clock()
            try:
                reply = await lines.ask(settings, command, max(until - self._clock(), 0.001))
            except Exception:
                self._doubt(route, place)
                raise
            if not isinstance(reply, Exception):
                return [reply[0], self._now(place, int(reply[1]), sent), *reply[2:]]
            if str(reply).startswith(("NOSCRIPT", "No matching script")) and by_name[0] == "EVALSHA":
                by_name = ("EVAL", script.text)  # the server was restarted; a second round trip, once
                continue
            failure = refused(settings.label, reply, "a step of a read chain")
            if isinstance(failure, Redirected | Unavailable):
                self._doubt(route, place)
            raise failure from reply

    def _now(self, place: Place | None, now_us: int, sent: float) -> int:
        """Return the server's time for ages: where its clock was set back, what it would be without that.

        Answers from before the step would look younger than they are; those from after it look older meanwhile.
        """
        heard, arrived = self._heard.get(place), self._clock()
        self._heard[place] = now_us, arrived
        by, until = self._back.get(place, (0, arrived))
        if heard is not None:
            missing = heard[0] + round((sent - heard[1]) * 1_000_000) - now_us
            if missing > _STEP:
                by = (by if arrived < until else 0) + missing
                until = arrived + self._outlived
                self._back[place] = by, until
        return now_us + by if arrived < until else now_us

    def _doubt(self, route: Route | None, place: Place | None) -> None:
        """Ask where the server is before the next step."""
        self._heard.pop(place, None)
        if route is not None and place is not None:
            route.doubt(place)

    def _way(self) -> tuple[Route | None, Lines]:
        raise NotImplementedError


class RedisShared(_Cache):
    """The blocking make."""

    def __init__(self, name: str, tier: RedisTier, absent_for: float, clock: Clock = monotonic) -> None:
        super().__init__(name, tier, absent_for, clock)
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child."""
        self._lines = BlockingLines(self._clock)
        self._route: Route | None = None
        if self.target.shape is not Shape.SINGLE:
            kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
            self._route = kind(self.target, blocking_exchange, BlockingRuntime())

    def close(self) -> None:
        """Close the connections at rest; the cache may be used again."""
        self._lines.close()

    def _way(self) -> tuple[Route | None, Lines]:
        return self._route, self._lines


class AsyncRedisShared(_Cache):
    """The asyncio make, for any number of event loops."""

    def __init__(self, name: str, tier: RedisTier, absent_for: float, clock: Clock = monotonic) -> None:
        super().__init__(name, tier, absent_for, clock)
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the parent's loops alone, in a forked child."""
        self._ways: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Route | None, LoopLines]]
        self._ways = weakref.WeakKeyDictionary()

    async def aclose(self) -> None:
        """Close the running loop's connections at rest; the cache may be used again."""
        found = self._ways.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()
            await asyncio.sleep(0)  # the transports let go of their sockets in the next turn

    def _way(self) -> tuple[Route | None, Lines]:
        loop = asyncio.get_running_loop()
        found = self._ways.get(loop)
        if found is None:
            route: Route | None = None
            if self.target.shape is not Shape.SINGLE:
                kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
                route = kind(self.target, asyncio_exchange, AsyncioRuntime())
            found = self._ways[loop] = route, LoopLines(self._clock)
        return found
