"""What a distributed transaction can answer, beyond the kernel's four branches."""

from __future__ import annotations

from typing import Any, ClassVar

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Rejected, Unavailable

__all__ = [
    "AlreadyCancelled",
    "AlreadyConfirmed",
    "AlreadyRun",
    "BarrierAlarm",
    "JournalUnanswered",
    "PayloadMismatch",
    "StillInFlight",
    "TransactionCancelled",
    "TryFailed",
    "TryInvalid",
    "TryRefused",
]


class TryRefused(Rejected):
    """A participant said a definite no: sold out, insufficient funds, a try that came after its cancel.

    Raise it in a `try_` function to refuse. The participant's transaction is rolled back, the coordinator
    cancels the other branches, and the caller of the transaction gets this error.

    Args:
        reason: a short text for the caller, such as `"sold out: 1029743"`.
        detail: JSON for programs, carried along unchanged.
        branch: filled in by the coordinator: which branch refused, such as `"2 http://stock/reservations"`.
    """

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Refused by a participant"

    def __init__(self, reason: str = "", *, detail: Any = None, branch: str | None = None) -> None:
        super().__init__(reason if branch is None else f"branch {branch} refused: {reason}")
        self.reason = reason
        self.detail = detail
        self.branch = branch


class TryFailed(Unavailable):
    """A try gave no usable answer (timeout, broken connection, 5xx, an exception); the transaction is cancelled.

    Whether the try took effect is unknown, so its branch is cancelled with the others; in the end nothing
    is changed.
    """


class TryInvalid(Misuse):
    """A participant answered that the request itself is wrong (404, 422, ...); the transaction is cancelled."""


class TransactionCancelled(Rejected):
    """The block ended well, but the transaction had been cancelled: its deadline passed, or another process took it."""


class AlreadyRun(Rejected):
    """A transaction with this idempotency key is in the journal; nothing was run again.

    Args:
        message: what was found.
        key: the idempotency key.
        gtrid: the recorded transaction.
        retry_after: seconds after which asking again makes sense.
    """

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Already run"

    def __init__(self, message: str = "", *, key: str = "", gtrid: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.key = key
        self.gtrid = gtrid


class AlreadyConfirmed(AlreadyRun):
    """The recorded transaction is decided CONFIRM; `result` is what its block stored in `tx.result`."""

    title: ClassVar[str] = "Already confirmed"

    def __init__(self, message: str = "", *, key: str = "", gtrid: str = "", result: Any = None) -> None:
        super().__init__(message, key=key, gtrid=gtrid)
        self.result = result


class AlreadyCancelled(AlreadyRun):
    """The recorded transaction is decided CANCEL; `reason` says why, `refused` whether a participant refused."""

    title: ClassVar[str] = "Already cancelled"

    def __init__(
        self, message: str = "", *, key: str = "", gtrid: str = "", reason: str = "", refused: bool = False
    ) -> None:
        super().__init__(message, key=key, gtrid=gtrid)
        self.reason = reason
        self.refused = refused


class StillInFlight(AlreadyRun):
    """The recorded transaction is not decided yet: ask again later."""

    title: ClassVar[str] = "Still in flight"


class BarrierAlarm(BackstayError):
    """A request that no correct coordinator sends: confirm before try, confirm after cancel, cancel after confirm.

    Nothing was changed. It is an alert for people: two coordinators disagree, an id was used twice, or the
    barrier's rows were removed too early.
    """

    http_status: ClassVar[int] = 422
    title: ClassVar[str] = "Impossible order"


class PayloadMismatch(BarrierAlarm):
    """The same branch of the same transaction came with another payload: an id was used twice."""


class JournalUnanswered(OutcomeUnknown):
    """The journal's database did not answer a write: it may or may not have happened."""
