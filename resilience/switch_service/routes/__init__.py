"""The service's routes, a module a resource."""

from __future__ import annotations

__all__: list[str] = []
