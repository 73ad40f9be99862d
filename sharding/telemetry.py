"""What each shard does, counted in process: traffic, errors, latency, and connections in use.

Statements that a session executes are counted here; what a flush sends is in SQLAlchemy's own instrumentation.
"""

from __future__ import annotations

from sqlalchemy import Engine

from backstay.telemetry import Counter, Histogram, counter, histogram, level

__all__ = ["ShardMeters"]


class ShardMeters:
    """The instruments of one shard; layouts with the same shard names share them."""

    __slots__ = ("__weakref__", "_engine", "done", "failed", "took")

    def __init__(self, shard: str, engine: Engine) -> None:
        self._engine = engine
        self.done: Counter = counter("shard.statements", "{statement}", resource=shard, result="ok")
        self.failed: Counter = counter("shard.statements", "{statement}", resource=shard, result="error")
        self.took: Histogram = histogram("shard.statement.duration", "s", resource=shard)
        level("shard.connections", "{connection}", self.connections, resource=shard)

    def connections(self) -> float:
        """How many connections of the shard's pool are in use; 0 for a pool that does not count them."""
        checked_out = getattr(self._engine.pool, "checkedout", None)
        return float(checked_out()) if checked_out is not None else 0.0
