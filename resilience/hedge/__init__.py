"""A second attempt of a read that takes too long; the first good answer wins."""

from __future__ import annotations

from .policy import Hedge, Pool
from .settings import HedgeSettings

__all__ = ["Hedge", "HedgeSettings", "Pool"]
