"""PostgreSQL's advisory locks: for a session, as a store of locks, and for a transaction of the caller."""

from __future__ import annotations

from .backend import AdvisoryBackend
from .keys import key_of
from .source import AdvisorySource
from .transactions import advisory_xact_lock, async_advisory_xact_lock

__all__ = ["AdvisoryBackend", "AdvisorySource", "advisory_xact_lock", "async_advisory_xact_lock", "key_of"]
