"""Why an operation was not done, and why a turn of the cache cannot end."""

from __future__ import annotations

from typing import ClassVar

from backstay.errors import Rejected

__all__ = ["Insufficient", "Mismatched", "NoSuchBalance"]


class Insufficient(Rejected):
    """The balance is smaller than the amount; nothing was changed.

    Args:
        message: of which key, and how much is there.
        left: the balance that refused.
    """

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Not enough left"

    def __init__(self, message: str = "", *, left: int = 0) -> None:
        super().__init__(message)
        self.left = left


class NoSuchBalance(Rejected):
    """There is no balance of that key; nothing was changed."""

    http_status: ClassVar[int] = 404
    title: ClassVar[str] = "No such balance"


class Mismatched(Rejected):
    """Cache and database do not agree: the way back to the database is shut until somebody has looked.

    Args:
        message: what differs, and what to do now.
        keys: those that differ, with the balance in the cache and in the database; at most a hundred.
    """

    http_status: ClassVar[int] = 503
    title: ClassVar[str] = "Cache and database differ"

    def __init__(self, message: str = "", *, keys: dict[str, tuple[int | None, int | None]] | None = None) -> None:
        super().__init__(message)
        self.keys = keys or {}
