"""A pipeline round calls to other services, whatever the client: what httpx and requests have in common.

One call of a client is one call of the pipeline. Its answer is a stream, so policies that hold something for the
time of an attempt (breaker, bulkhead, concurrency limit) are settled when the answer's body has ended (CB-10). An
answer whose status is a failure travels through the policies as `FailedAnswer`, and reaches the caller as the
answer that it is. Answers of attempts that were repeated are closed before the next attempt begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Container
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Final, Protocol

from backstay.errors import Misuse

from ..pipeline import Pipeline
from ..pipeline.slots import Slot
from ..policy import Admitting, Colour, Policy, Settle, Target
from .answers import SERVER_ERRORS, FailedAnswer
from .attempts import Held, Sometimes

__all__ = ["IDEMPOTENT", "OTHER_HOSTS", "Exchange", "Outgoing", "Wire", "check_failures"]

IDEMPOTENT: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""The methods that may be repeated unless it is said otherwise (RFC 9110, 9.2.2)."""

OTHER_HOSTS: Final = "_other"
"""The host by which pipelines are asked for once there are as many as there may be."""

_HELD: Final = frozenset({"circuit_breaker", "concurrency_limit", "bulkhead", "load_balancer"})


class Wire(Protocol):
    """One client library, as far as pipelines have to know it."""

    def repeatable(self, request: Any) -> bool:
        """Return whether the body can be sent a second time."""
        ...

    def follow(self, response: Any, settle: Settle) -> None:
        """Tell `settle` when the body of `response` has ended, and how."""
        ...


@dataclass(slots=True)
class Exchange:
    """One call of the client: the answer of the latest attempt, if that was a failure."""

    failed: Any = None


_exchange: ContextVar[Exchange] = ContextVar("backstay_exchange")


class Outgoing:
    """Pipelines for the hosts of one client, each compiled once for the client's colour.

    Args:
        pipeline: for all hosts; or
        per_host: makes the pipeline of a host.
        most_hosts: how many hosts get a pipeline of their own; all others share that of `_other` (OT-4).
        failures: the statuses that are failures.
        methods: the methods that may be repeated.
        wire: the client library.
        attempt: sends a request once; of the client's colour.
        is_async: the colour.

    Raises:
        Misuse: not exactly one of `pipeline` and `per_host`, or a policy that cannot go round a stream's answer.
    """

    def __init__(
        self,
        pipeline: Pipeline | None,
        per_host: Callable[[str], Pipeline] | None,
        *,
        most_hosts: int,
        failures: Container[int],
        methods: Collection[str],
        wire: Wire,
        attempt: Callable[[Any], Any],
        is_async: bool,
    ) -> None:
        if (pipeline is None) == (per_host is None):
            raise Misuse("give pipeline=Pipeline(...) for all hosts, or per_host=lambda host: Pipeline(...)")
        if most_hosts < 1:
            raise Misuse(f"most_hosts must be at least 1, got {most_hosts}")
        self._failures = failures
        self._methods = _check_methods(methods)
        self._wire = wire
        self._attempt = attempt
        self._colour = Colour.COROUTINE if is_async else Colour.FUNCTION
        self._per_host = per_host
        self._most_hosts = most_hosts
        self._lock = threading.Lock()
        self._routes: dict[str, _Route] = {}
        self._only = None if pipeline is None else self._route(pipeline)

    def chain(self, host: str) -> Callable[[Any], Any]:
        """Return what sends a request to `host` through its pipeline, as that is now."""
        route = self._only or self._routes.get(host) or self._new_route(host)
        return route.chain()

    def judged(self, response: Any, status: int) -> Any:
        """Return the answer of an attempt, or raise it as a failure; an earlier attempt's answer is forgotten."""
        if status in self._failures:
            _exchange.get().failed = response
            raise FailedAnswer(status, response=response)
        return response

    @staticmethod
    def begin() -> tuple[Exchange, Token[Exchange]]:
        """Begin one call of the client; it may be made inside another one's attempt."""
        exchange = Exchange()
        return exchange, _exchange.set(exchange)

    @staticmethod
    def end(token: Token[Exchange]) -> None:
        """End it."""
        _exchange.reset(token)

    def earlier(self) -> Any:
        """Return the failed answer that the attempt now beginning replaces, to be closed; None where there is none."""
        exchange = _exchange.get()
        found, exchange.failed = exchange.failed, None
        return found

    def _new_route(self, host: str) -> _Route:
        with self._lock:
            if host not in self._routes and len(self._routes) >= self._most_hosts:
                host = OTHER_HOSTS
            found = self._routes.get(host)
            if found is None:
                assert self._per_host is not None
                found = self._routes[host] = self._route(self._per_host(host))
            return found

    def _route(self, given: object) -> _Route:
        if not isinstance(given, Pipeline):
            raise Misuse(f"a client needs a Pipeline, got {given!r:.100}")
        pipeline = given
        target = Target(function=self._attempt, resource=pipeline.name, label=pipeline.name, colour=self._colour)
        return _Route(pipeline, target, self._fitted)

    def _fitted(self, policy: Policy) -> Policy:
        if policy.kind == "hedge":
            raise Misuse(
                "hedge cannot stand in a client's pipeline: answers are streams, and that of the slower attempt would "
                "stay open; put it on the function that reads the answer"
            )
        if policy.kind == "retry":
            return Sometimes(policy, self._may_repeat)
        if policy.kind in _HELD and isinstance(policy, Admitting):
            return Held(policy, self._wire.follow)
        return policy

    def _may_repeat(self, request: Any) -> bool:
        has_key = "Idempotency-Key" in request.headers
        return (has_key or request.method.upper() in self._methods) and self._wire.repeatable(request)


class _Route:
    """A pipeline compiled for one client, and again when its policies have changed."""

    __slots__ = ("_compiled", "_fitted", "_pipeline", "_target")

    def __init__(self, pipeline: Pipeline, target: Target, fitted: Callable[[Policy], Policy]) -> None:
        self._pipeline = pipeline
        self._target = target
        self._fitted = fitted
        self._compiled = self._compile(pipeline.policies)

    def chain(self) -> Callable[[Any], Any]:
        policies, call = self._compiled
        if policies is not self._pipeline.policies:
            self._compiled = self._compile(self._pipeline.policies)
            _, call = self._compiled
        return call

    def _compile(self, policies: tuple[Policy, ...]) -> tuple[tuple[Policy, ...], Callable[[Any], Any]]:
        return policies, Slot(self._target, [self._fitted(policy) for policy in policies]).call


def _check_methods(methods: Collection[str]) -> frozenset[str]:
    """Return `methods` in capitals.

    Raises:
        Misuse: it is one text; "PUT" would mean the letters P, U and T.
    """
    given: Any = methods
    if isinstance(given, str) or not all(isinstance(each, str) for each in given):
        raise Misuse(f"methods must be a set of names, such as {{'GET', 'PUT'}}, got {given!r}")
    return frozenset(each.upper() for each in methods)


def check_failures(failures: Container[int]) -> Container[int]:
    """Return `failures` if statuses can be looked up in it.

    Raises:
        Misuse: they cannot, as in a single number.
    """
    if not hasattr(failures, "__contains__"):
        raise Misuse(f"failures must be a set or range of statuses, such as {SERVER_ERRORS!r}, got {failures!r}")
    return failures
