"""Stay useful under load: policies round a function, alone or as one pipeline.

    limiter = RateLimiter.connect("redis://localhost/0", rate="100/second;burst=200", name="purchase")
    switches = Switches.connect("file:///etc/shop/switches.toml")

    @protect("catalogue", limit="50/second", breaker=True, retry=3, switch="catalogue", switches=switches,
             fallback=static_catalogue)
    def catalogue(): ...

A module a policy has the rest: its settings, errors and states, such as `backstay.resilience.circuit_breaker`.
"""

from __future__ import annotations

from .bulkhead import Bulkhead, ThreadPool
from .circuit_breaker import CircuitBreaker
from .concurrency_limit import ConcurrencyLimit
from .fallback import Fallback
from .hedge import Hedge
from .levels import Level, Levels
from .pipeline import Pipeline, Pipelines, load_pipelines, pipeline_of, protect
from .rate_limiting import AsyncRateLimiter, Decision, Rate, RateLimiter, disconnect
from .read_chain import ReadChain
from .retry import Retry
from .switches import Snapshot, Switches
from .system_guard import SystemGuard
from .timeout import AttemptTimeout, CallTimedOut, Deadline, Timeout
from .write_behind import AsyncWriteBehind, WriteBehind

__all__ = [
    "AsyncRateLimiter",
    "AsyncWriteBehind",
    "AttemptTimeout",
    "Bulkhead",
    "CallTimedOut",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Deadline",
    "Decision",
    "Fallback",
    "Hedge",
    "Level",
    "Levels",
    "Pipeline",
    "Pipelines",
    "Rate",
    "RateLimiter",
    "ReadChain",
    "Retry",
    "Snapshot",
    "Switches",
    "SystemGuard",
    "ThreadPool",
    "Timeout",
    "WriteBehind",
    "disconnect",
    "load_pipelines",
    "pipeline_of",
    "protect",
]
