"""What the service answers when it does not do what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backstay.errors import Rejected

__all__ = ["Conflict", "Refused"]


class Conflict(Rejected):
    """The document is no longer the one that the change was made for; look again, and decide again.

    Args:
        message: what was expected and what there is.
        version: that there is; 0 where there is no document.
    """

    http_status = 409
    title = "Not the present version"

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class Refused(Exception):
    """An answer other than success, for the client to read; becomes a problem document.

    Args:
        status: HTTP status.
        title: what kind of refusal.
        detail: what was wrong and what mends it.
        headers: further headers.
        further: further members of the problem document.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.further = dict(further or {})
