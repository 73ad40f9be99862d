"""`protect`: one decorator for Flask views, FastAPI endpoints and plain functions, `def` and `async def`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from backstay.errors import Misuse, Rejected, Unavailable

from ..fallback import Fallback, FallbackSettings
from ..policy import Policy
from ..rate_limiting.failure import FailureMode
from ..rate_limiting.limiter import AsyncRateLimiter, RateLimiter
from ..rate_limiting.policy import RateLimit
from ..rate_limiting.rate import Rate
from ..rate_limiting.settings import RateLimitSettings
from ..switches.policy import SwitchPolicy
from ..switches.switches import Switches
from .pipeline import Pipeline
from .vocabulary import WORDS

__all__ = ["protect"]

P = ParamSpec("P")
T = TypeVar("T")

Limit: TypeAlias = str | Rate | RateLimiter | AsyncRateLimiter | RateLimit | RateLimitSettings | Mapping[str, Any]
_NONE: Final[Any] = object()  # None is a fallback value like any other


def protect(
    name: str,
    *,
    limit: str
    | Rate
    | RateLimiter
    | AsyncRateLimiter
    | RateLimit
    | Mapping[str, Any]
    | RateLimitSettings
    | None = None,
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
    guard: Any = None,
    timeout: Any = None,
    deadline: Any = None,
    retry: Any = None,
    hedge: Any = None,
    breaker: Any = None,
    attempt_timeout: Any = None,
    concurrency: Any = None,
    bulkhead: Any = None,
    thread_pool: Any = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Put policies round a function, and measure it.

        @app.post("/purchases")
        @protect("purchase", limit="100/second;burst=200", key="household:{household_id}", breaker=True, retry=3,
                 attempt_timeout=0.5, timeout=2.0, bulkhead=16, store="redis://localhost/0")
        async def purchase(household_id: int) -> Receipt: ...

    The order is that of CO-1, whatever the order of the arguments: measured, switch, fallback, limit, timeout,
    retry, breaker, attempt timeout, bulkhead, call. A function keeps its name, its signature and its colour. Over
    Redis an `async def` never blocks its loop. `pipeline_of(function)` is the `Pipeline` that was made, which can be
    printed and changed.

    Each policy is given by its short form, a mapping of its settings, its settings object, or as an object that
    other functions share.

    Args:
        name: the resource's name in telemetry, and the limiter's in its store.
        limit: a rate, such as `"100/second;burst=200"`; a limiter of the function's colour; or a table of
            `RateLimitSettings`, in which the six after it then stand.
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
            `refusal` if it has such a parameter; or a `Fallback`. An unknown outcome is never hidden behind it.
        fallback_on: the errors that the fallback answers.
        guard: refuse by the load of the process: True, or settings.
        timeout: seconds for the whole call, retries included; a plain function needs `thread_pool` for it.
        deadline: seconds that what is called can read as `remaining()`; stops nothing by itself.
        retry: attempts in all, or settings.
        hedge: `{"after": 0.05, "idempotent": True}`: a read that takes longer is asked a second time.
        breaker: True, or settings.
        attempt_timeout: seconds for each attempt.
        concurrency: an adaptive limit of calls at once: True, or settings.
        bulkhead: calls at once, or settings.
        thread_pool: threads that run the calls, or settings.

    Raises:
        Misuse: at decoration, for anything that is wrong: a rate, a key that names no parameter, an unknown
            switch, a fallback that does not fit, a policy that cannot go round a generator function.
        RateLimited, Degraded, BulkheadFull, BreakerOpen, Unavailable: when called, where no fallback answers.
    """
    given: Any = name  # forgotten parentheses pass the function itself
    if not isinstance(given, str) or not given:
        raise Misuse(f"protect needs the resource's name first, as in @protect('purchase', ...), got {name!r}")
    if limit is None and key is not None:
        raise Misuse(f"{name!r}: key={key!r} without a limit has no effect; add limit='100/second'")
    if (switch is None) != (switches is None):
        raise Misuse(f"{name!r}: switch= and switches= go together")
    policies: list[Policy] = []
    if switch is not None and switches is not None:
        policies.append(SwitchPolicy(switches, switch))
    if fallback is not _NONE:
        policies.append(_fallback(name, fallback, fallback_on))
    if isinstance(limit, RateLimit):
        policies.append(limit)
    elif isinstance(limit, RateLimiter | AsyncRateLimiter):
        policies.append(RateLimit(name, limiter=limit, key=key, cost=cost))
    elif isinstance(limit, RateLimitSettings | Mapping):
        if key is not None or cost != 1 or store != "memory://":
            raise Misuse(f"{name!r}: with limit= as settings, key, cost and store stand in the table as well")
        policies.append(RateLimit(name, settings=RateLimitSettings.of(limit)))
    elif limit is not None:
        policies.append(
            RateLimit(
                name,
                rate=limit,
                key=key,
                cost=cost,
                store=store,
                namespace=namespace,
                on_store_failure=on_store_failure,
                local_share=local_share,
                budget=budget,
            )
        )
    words = {
        "guard": guard,
        "timeout": timeout,
        "deadline": deadline,
        "retry": retry,
        "hedge": hedge,
        "breaker": breaker,
        "attempt_timeout": attempt_timeout,
        "concurrency": concurrency,
        "bulkhead": bulkhead,
        "thread_pool": thread_pool,
    }
    policies += _by_words(name, words)
    return Pipeline(name, *policies, switches=switches)


def _fallback(name: str, given: Any, on: tuple[type[Exception], ...]) -> Fallback:
    if isinstance(given, Fallback):
        return given
    if isinstance(given, FallbackSettings):
        return Fallback(name, settings=given)
    return Fallback(name, answer=given, on=on)


def _by_words(name: str, words: Mapping[str, Any]) -> Iterator[Policy]:
    for word, value in words.items():
        if value is None or value is False:
            continue
        own = callable(getattr(value, "wrap", None))
        if own and getattr(value, "kind", None) != WORDS[word].kind:
            raise Misuse(f"{name!r}: {word}= takes a policy of kind {WORDS[word].kind!r}, got {value!r:.100}")
        policy: Policy = value if own else WORDS[word].make(name, value, None)
        yield policy
