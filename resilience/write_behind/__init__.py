"""Write degradation: balances are changed in a cache for a while, and the database follows with effect exactly once."""

from __future__ import annotations

from .errors import Insufficient, Mismatched, NoSuchBalance
from .settings import Settings
from .values import Balances, Entry, Phase, Reading, Receipt, Status
from .write_behind import AsyncWriteBehind, WriteBehind

__all__ = [
    "AsyncWriteBehind",
    "Balances",
    "Entry",
    "Insufficient",
    "Mismatched",
    "NoSuchBalance",
    "Phase",
    "Reading",
    "Receipt",
    "Settings",
    "Status",
    "WriteBehind",
]
