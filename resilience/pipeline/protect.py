"""`protect`: one decorator for Flask views, FastAPI endpoints and plain functions, `def` and `async def`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from backstay.errors import Misuse, Rejected, Unavailable

from ..fallback import Fallback
from ..operation import Operation
from ..policy import Policy, compose, target_of
from ..rate_limiting.failure import FailureMode
from ..rate_limiting.limiter import AsyncRateLimiter, RateLimiter
from ..rate_limiting.policy import RateLimit
from ..rate_limiting.rate import Rate
from ..switches.policy import SwitchPolicy
from ..switches.switches import Switches

__all__ = ["protect"]

P = ParamSpec("P")
T = TypeVar("T")

_NONE: Final[Any] = object()  # None is a fallback value like any other


def protect(
    name: str,
    *,
    limit: str | Rate | RateLimiter | AsyncRateLimiter | None = None,
    key: str | Callable[..., str] | None = None,
    cost: int = 1,
    store: object = "memory://",
    namespace: str = "default",
    on_store_failure: FailureMode = "open",
    local_share: float = 1.0,
    budget: float = 0.05,
    switch: str | None = None,
    switches: Switches | None = None,
    fallback: Any = _NONE,
    fallback_on: tuple[type[Exception], ...] = (Rejected, Unavailable),
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Put limit, switch and fallback round a function, and measure it.

        @app.post("/purchases")
        @protect("purchase", limit="100/second;burst=200", key="household:{household_id}", store="redis://localhost/0")
        async def purchase(household_id: int) -> Receipt: ...

    The order is that of CO-1, whatever the order of the arguments: measured, switch, fallback, limit, call. A
    function keeps its name, its signature and its colour. Over Redis an `async def` never blocks its loop.

    Args:
        name: the resource's name in telemetry, and the limiter's in its store.
        limit: a rate, such as `"100/second;burst=200"`, or a limiter of the function's colour.
        key: whose bucket a call charges: a template of the function's parameters, or a function of the call's
            arguments. One bucket for all where it is left out.
        cost: tokens a call.
        store: where buckets are kept; see `RateLimiter.connect`, as for the four after it.
        namespace: see there.
        on_store_failure: see there.
        local_share: see there.
        budget: see there.
        switch: a switch that must be on.
        switches: where it is.
        fallback: what answers instead of a refusal: a value, or a function of the same arguments, and of
            `refusal` if it has such a parameter. An unknown outcome is never hidden behind it.
        fallback_on: the errors that the fallback answers.

    Raises:
        Misuse: at decoration, for anything that is wrong: a rate, a key that names no parameter, an unknown
            switch, a fallback that does not fit, a generator function.
        RateLimited, Degraded, Unavailable: when called, where no fallback answers.
    """
    given: Any = name  # forgotten parentheses pass the function itself
    if not isinstance(given, str) or not given:
        raise Misuse(f"protect needs the resource's name first, as in @protect('purchase', ...), got {name!r}")
    if limit is None and key is not None:
        raise Misuse(f"{name!r}: key={key!r} without a limit has no effect; add limit='100/second'")
    if (switch is None) != (switches is None):
        raise Misuse(f"{name!r}: switch= and switches= go together")
    cover = None if fallback is _NONE else Fallback(fallback, fallback_on)
    policies: list[Policy] = [Operation(name)]
    if switch is not None and switches is not None:
        policies.append(SwitchPolicy(switches, switch, cover))
    if cover is not None:
        policies.append(cover)
    if isinstance(limit, RateLimiter | AsyncRateLimiter):
        policies.append(RateLimit(lambda: limit, lambda: limit, key=key, cost=cost))
    elif limit is not None:
        options: dict[str, Any] = {
            "rate": Rate.of(limit),
            "name": name,
            "namespace": namespace,
            "on_store_failure": on_store_failure,
            "local_share": local_share,
            "budget": budget,
        }
        blocking = partial(RateLimiter.connect, store, **options)
        asynchronous = partial(AsyncRateLimiter.connect, store, **options)
        policies.append(RateLimit(blocking, asynchronous, key=key, cost=cost))

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        protected: Callable[P, T] = compose(policies, target_of(function, name))
        return protected

    return decorate
