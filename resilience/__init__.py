"""Stay useful under load: limits, degradation switches, and the decorator that puts them round a function.

limiter = RateLimiter.connect("redis://localhost/0", rate="100/second;burst=200", name="purchase")
switches = Switches.connect("file:///etc/shop/switches.toml")

@protect("catalogue", limit="50/second", switch="catalogue", switches=switches, fallback=static_catalogue)
def catalogue(): ...
"""

from __future__ import annotations

from .pipeline import protect
from .rate_limiting import AsyncRateLimiter, Decision, Rate, RateLimiter, disconnect
from .switches import Snapshot, Switches

__all__ = ["AsyncRateLimiter", "Decision", "Rate", "RateLimiter", "Snapshot", "Switches", "disconnect", "protect"]
