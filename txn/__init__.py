"""Distributed transactions: all or nothing across services and databases.

TCC (try, confirm, cancel) over a journal in SQLite, PostgreSQL or MariaDB: every branch is tried, one durable
decision is made, and every branch is then confirmed or cancelled, whatever dies in between. `Participant` and
`Barrier` make a service's functions safe against repeated, late and overtaking requests.

Names are loaded when they are first used: importing the package needs none of its optional dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .asynchronous import AsyncTccTransaction, AsyncTransactionManager
from .blocking import TccTransaction, TransactionManager
from .errors import (
    AlreadyCancelled,
    AlreadyConfirmed,
    AlreadyRun,
    BarrierAlarm,
    PayloadMismatch,
    StillInFlight,
    TransactionCancelled,
    TryFailed,
    TryInvalid,
    TryRefused,
)
from .journal import BranchRecord, TransactionRecord
from .tcc.action import Tcc
from .tcc.backoff import Backoff
from .tcc.settings import Settings
from .tcc.states import BranchState, Outcome, State
from .values import Branch, Phase, Reply

if TYPE_CHECKING:
    from .barrier.face import AsyncBarrier, Barrier
    from .barrier.participant import AsyncParticipant, Participant

__all__ = [
    "AlreadyCancelled",
    "AlreadyConfirmed",
    "AlreadyRun",
    "AsyncBarrier",
    "AsyncParticipant",
    "AsyncTccTransaction",
    "AsyncTransactionManager",
    "Backoff",
    "Barrier",
    "BarrierAlarm",
    "Branch",
    "BranchRecord",
    "BranchState",
    "Outcome",
    "Participant",
    "PayloadMismatch",
    "Phase",
    "Reply",
    "Settings",
    "State",
    "StillInFlight",
    "Tcc",
    "TccTransaction",
    "TransactionCancelled",
    "TransactionManager",
    "TransactionRecord",
    "TryFailed",
    "TryInvalid",
    "TryRefused",
]

_OVER_SQLALCHEMY = {
    "AsyncBarrier": "face",
    "AsyncParticipant": "participant",
    "Barrier": "face",
    "Participant": "participant",
}


def __getattr__(name: str) -> object:
    if name in _OVER_SQLALCHEMY:
        from backstay.url import require

        require("sqlalchemy", "sql")
        found: object = getattr(import_module(f".barrier.{_OVER_SQLALCHEMY[name]}", __name__), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
