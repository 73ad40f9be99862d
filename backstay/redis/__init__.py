"""The way to Redis for every package: settings read once, Sentinel and Cluster followed, servers looked at first.

`target` reads a URL or a client. `SentinelRoute` and `ClusterRoute` say where a key is served now. What is then
spoken there is the business of the package that asks: locks send scripts, limiters send one.
"""

from __future__ import annotations

from .cluster import ClusterRoute
from .exchange import Exchange, asyncio_exchange, blocking_exchange
from .failures import Redirected, not_reached, refused, unanswered
from .precautions import Precautions
from .route import Place, Route
from .sentinel import SentinelRoute
from .settings import Settings
from .target import SCHEMES, Shape, Target, of_client, of_url, target

__all__ = [
    "SCHEMES",
    "ClusterRoute",
    "Exchange",
    "Place",
    "Precautions",
    "Redirected",
    "Route",
    "SentinelRoute",
    "Settings",
    "Shape",
    "Target",
    "asyncio_exchange",
    "blocking_exchange",
    "not_reached",
    "of_client",
    "of_url",
    "refused",
    "target",
    "unanswered",
]
