"""The buckets of several rules that are charged together, and which groups cannot be (RL-7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backstay.errors import Misuse

from .announced import AnnouncedBuckets, AsyncAnnouncedBuckets
from .backends.memory import MemoryBuckets
from .connect import async_buckets, blocking_buckets
from .limiter import AsyncRateLimiter, RateLimiter
from .rate import Rate

__all__ = ["announced_in", "joined", "made"]

_RULE = re.compile(r"[^\s{}:]{1,100}")
_MOST = 16


def made(
    store: object,
    rules: Mapping[str, object],
    name: str,
    namespace: str,
    budget: float,
    time: str,
    max_keys: int,
    *,
    asynchronous: bool,
) -> dict[str, Any]:
    """Return buckets for each rule, on one server."""
    checked(rules, name)
    rates = {rule: Rate.of(rate) for rule, rate in rules.items()}
    make: Any = async_buckets if asynchronous else blocking_buckets
    found = {
        rule: make(
            store,
            rate=rate,
            name=f"{name}.{rule}",
            namespace=namespace,
            budget=budget,
            time=time,
            max_keys=max_keys,
        )
        for rule, rate in rates.items()
    }
    if all(isinstance(each, MemoryBuckets) for each in found.values()):
        return found
    # On a server they need keys of one slot, and one store to ask.
    return {
        rule: type(each)(each.store, each.rate, namespace=namespace, name=name, time_source=time, rule=rule)
        for rule, each in found.items()
    }


def joined(limiters: Mapping[str, RateLimiter | AsyncRateLimiter], name: str) -> dict[str, Any]:
    """Return the buckets of limiters that exist.

    Raises:
        Misuse: they cannot be charged in one step.
    """
    checked(limiters, name)
    buckets: dict[str, Any] = {rule: _plain(limiter.buckets) for rule, limiter in limiters.items()}
    if len({limiter.identity for limiter in limiters.values()}) < len(limiters):
        raise Misuse(f"rules {name!r}: two rules have the same buckets; a call would charge them twice")
    in_memory = [isinstance(each, MemoryBuckets) for each in buckets.values()]
    if all(in_memory):
        return buckets
    stores = {id(getattr(each, "store", None)) for each in buckets.values()}
    if any(in_memory) or len(stores) > 1 or not all(hasattr(each, "terms") for each in buckets.values()):
        raise Misuse(f"rules {name!r}: all limiters must be token buckets on one store, with one budget")
    target = next(iter(buckets.values())).store.target
    if target.shape.name == "CLUSTER":
        raise Misuse(
            f"rules {name!r}: on a Cluster the buckets of different limiters are on different servers and cannot be "
            "charged in one step; make them together: JointRateLimiter.connect(..., rules={...})"
        )
    return buckets


def announced_in(limiters: Mapping[str, RateLimiter | AsyncRateLimiter]) -> dict[str, str]:
    """Return by rule the names of those limiters that announce their decisions."""
    return {rule: each.name for rule, each in limiters.items() if _plain(each.buckets) is not each.buckets}


def _plain(buckets: Any) -> Any:
    return buckets.inner if isinstance(buckets, AnnouncedBuckets | AsyncAnnouncedBuckets) else buckets


def checked(rules: Mapping[str, object], name: str) -> None:
    """Check the names of rules.

    Raises:
        Misuse: there are none or too many, or a name is none.
    """
    given: Any = rules
    if not isinstance(given, Mapping) or not 1 <= len(rules) <= _MOST:
        raise Misuse(f"rules {name!r}: give 1 to {_MOST} rules by name, as in rules={{'app': '100/minute'}}")
    for rule in rules:
        each: Any = rule
        if not isinstance(each, str) or not _RULE.fullmatch(each):
            raise Misuse(
                f"rules {name!r}: the name of a rule must be 1 to 100 characters without spaces, ':', '{{', '}}'; "
                f"got {each!r}"
            )
