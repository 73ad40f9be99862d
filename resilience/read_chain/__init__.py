"""Reads that go on when the database does not: origin, distributed cache, the process, a static answer (DG-6)."""

from __future__ import annotations

from .answer import Answer, Source
from .codec import JSON, Codec
from .collected import Collected, reads
from .headers import said
from .policy import ReadChain
from .reach import WORDS, Reach, Word
from .settings import LocalTier, ReadSettings, RedisTier, StaticTier

__all__ = [
    "JSON",
    "WORDS",
    "Answer",
    "Codec",
    "Collected",
    "LocalTier",
    "Reach",
    "ReadChain",
    "ReadSettings",
    "RedisTier",
    "Source",
    "StaticTier",
    "Word",
    "reads",
    "said",
]
