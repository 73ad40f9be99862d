"""One running transaction, as its coordinator holds it in memory, and what answers of branches mean for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backstay.errors import BackstayError, Misuse

from ..errors import TryFailed, TryInvalid, TryRefused
from ..journal import BranchRecord, BranchUpdate, Lease
from ..values import Answer, Reply, Target, dump
from .states import BranchEvent, State

__all__ = ["Call", "Work", "objection", "tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A branch to be tried."""

    target: Target
    payload: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Work:
    """The mutable side of a transaction.

    `opened` is True once the journal may know the transaction; `doomed` is the first failure, after which
    nothing but CANCEL is possible; `unlogged` are T4 results that wait for the next write.
    """

    gtrid: str
    key: str | None
    lease: Lease
    deadline: float
    deadline_at: float
    opened: bool = False
    branches: list[BranchRecord] = field(default_factory=list[BranchRecord])
    unlogged: list[BranchUpdate] = field(default_factory=list[BranchUpdate])
    unsent: set[str] = field(default_factory=set[str])
    doomed: BaseException | None = None
    result: Any = None
    state: State = State.TRYING

    def number(self, calls: Sequence[Call]) -> list[BranchRecord]:
        """Return records for `calls`, numbered after the branches that there are."""
        first = len(self.branches) + 1
        if first + len(calls) > 10_000:
            raise Misuse("a transaction may have at most 9999 branches; split it")
        return [
            BranchRecord(
                id=str(position),
                position=position,
                target=call.target,
                payload=dump(call.payload, what=f"the payload for {call.target}"),
            )
            for position, call in enumerate(calls, first)
        ]


def tried(record: BranchRecord, reply: Reply) -> BranchUpdate | None:
    """Return what a try's answer changes in the journal (T4)."""
    if reply.answer is Answer.DONE:
        return BranchUpdate(id=record.id, event=BranchEvent.TRY_DONE)
    if reply.answer is Answer.REFUSED:
        return BranchUpdate(id=record.id, event=BranchEvent.TRY_REFUSED, error=reply.text or "refused")
    return BranchUpdate(id=record.id, event=None, error=reply.text or str(reply.answer))


def objection(record: BranchRecord, reply: Reply) -> BackstayError | None:
    """Return the error that a try's answer means for the caller, None for success."""
    name = f"{record.id} {record.target}"
    if reply.answer is Answer.DONE:
        return None
    if reply.answer is Answer.REFUSED:
        return TryRefused(reply.text, detail=reply.detail, branch=name)
    if reply.answer in (Answer.INVALID, Answer.ALARM):
        return TryInvalid(f"branch {name} does not accept the request: {reply.text}; the transaction is cancelled")
    if reply.answer is Answer.UNSENT:
        return TryFailed(f"branch {name} could not be reached: {reply.text}; the transaction is cancelled")
    return TryFailed(f"branch {name} gave no usable answer: {reply.text}; the transaction is cancelled, it included")
