"""Where a distributed cache is: Redis."""

from __future__ import annotations

__all__: list[str] = []
