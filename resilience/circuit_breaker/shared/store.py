"""Where instances meet: Redis, asked by one background thread over a connection a server, never by a call."""

from __future__ import annotations

import hashlib
import threading
from importlib import resources
from typing import Any

from backstay.blocking import BlockingRuntime, drive
from backstay.errors import BackstayError, Unavailable
from backstay.redis import (
    ClusterRoute,
    Place,
    Redirected,
    Route,
    SentinelRoute,
    Shape,
    Target,
    blocking_exchange,
    not_reached,
    refused,
    unanswered,
)

from .opinion import Answer, Question, override_from

__all__ = ["Store"]

_SCRIPT = resources.files("backstay.resilience.circuit_breaker.shared").joinpath("exchange.lua").read_text()
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_KEYS = ("members", "open", "versions", "probes", "hold", "override")


class Store:
    """One server, or those that Sentinel watches, or a Cluster."""

    def __init__(self, servers: Target, *, namespace: str, budget: float, ttl: float) -> None:
        self.target = servers
        self.budget = budget
        self._namespace = namespace
        self._ttl = round(ttl * 1000)
        self.renew()

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child."""
        self._lock = threading.Lock()
        self._connections: dict[Place | None, Any] = {}  # by server; None is the only one
        self._route: Route | None = None
        if self.target.shape is not Shape.SINGLE:
            kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
            self._route = kind(self.target, blocking_exchange, BlockingRuntime())

    def exchange(self, name: str, member: str, question: Question) -> Answer:
        """Tell and ask in one round trip.

        Raises:
            Unavailable: the store did not answer in time.
            OutcomeUnknown: nor is it known whether it heard; the next exchange has a greater version.
        """
        arguments = (
            member,
            question.version,
            int(question.is_open),
            self._ttl,
            question.wanted,
            question.held,
            round(question.lease * 1000),
            question.permits,
            round(question.hold * 1000),
            int(question.leaves),
        )
        keys = [self._key(name, part) for part in _KEYS]
        reply = self._ask(name, ("EVALSHA", _SHA, len(keys), *keys, *arguments))
        if isinstance(reply, Exception) and str(reply).startswith(("NOSCRIPT", "No matching script")):
            reply = self._ask(name, ("EVAL", _SCRIPT, len(keys), *keys, *arguments))
        live, opened, granted, override = self._read(reply)
        return Answer(live=live, open=opened, granted=granted, override=override_from(override.decode()))

    def put(self, name: str, override: str | None, seconds: float | None) -> None:
        """Store an override, or take it away.

        Raises:
            Unavailable, OutcomeUnknown: as for `exchange`; saying it again does no harm.
        """
        key = self._key(name, "override")
        if override is None:
            self._read(self._ask(name, ("DEL", key)))
        elif seconds is None:
            self._read(self._ask(name, ("SET", key, override)))
        else:
            self._read(self._ask(name, ("SET", key, override, "PX", max(1, round(seconds * 1000)))))

    def close(self) -> None:
        """Close the connections; the store may be used again."""
        with self._lock:
            for place in tuple(self._connections):
                self._drop(place)

    def _key(self, name: str, part: str) -> str:
        return f"backstay:{self._namespace}:breaker:{{{name}}}:1:{part}"

    def _ask(self, name: str, command: tuple[Any, ...]) -> Any:
        """Return the reply, an error reply as an exception."""
        from redis import exceptions

        with self._lock:
            place = None if self._route is None else drive(self._route.place(self._key(name, "members"), self.budget))
            connection = self._connected(place)
            sent = False
            try:
                connection.send_command(*command, check_health=False)
                sent = True
                return connection.read_response()
            except exceptions.ResponseError as error:
                failure = refused(self.target.label, error, "a breaker's exchange")
                if isinstance(failure, Redirected | Unavailable):
                    self._doubt(place)
                    raise failure from error
                return error
            except (exceptions.RedisError, OSError) as error:
                self._doubt(place)
                failing = unanswered if sent else not_reached
                raise failing(self.target.label, error) from error
            except BaseException:  # an answer may still be on its way over this connection
                self._drop(place)
                raise

    def _connected(self, place: Place | None) -> Any:
        from redis import exceptions

        known = self._connections.get(place)
        if known is not None:
            return known
        settings = self.target.settings if place is None else self.target.settings.at(*place)
        connection = settings.blocking(self.budget)
        try:
            connection.connect()
        except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
            raise refused(self.target.label, error, "the connection") from error
        except (exceptions.RedisError, OSError) as error:
            self._doubt(place)
            raise not_reached(self.target.label, error) from error
        self._connections[place] = connection
        return connection

    def _doubt(self, place: Place | None) -> None:
        """Ask where the server is before the next exchange."""
        if self._route is not None and place is not None:
            self._route.doubt(place)
        self._drop(place)

    def _drop(self, place: Place | None) -> None:
        connection = self._connections.pop(place, None)
        if connection is not None:
            connection.disconnect()

    def _read(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            failure: BackstayError = refused(self.target.label, reply, "a breaker's exchange")
            raise failure from reply
        return reply
