"""An error as an HTTP answer: status, `Retry-After` and a problem document (RFC 9457), for any framework."""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from dataclasses import dataclass

from backstay import errors
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Rejected
from backstay.url import mask

__all__ = ["MEDIA_TYPE", "Problem", "check_unknown_status", "problem"]

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger("backstay.problem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What to answer: `body` is JSON in UTF-8, `headers` hold its content type and perhaps `Retry-After`."""

    status: int
    headers: dict[str, str]
    body: bytes


def check_unknown_status(status: int) -> int:
    """Return `status` if it may answer an unknown outcome.

    Raises:
        Misuse: it is neither 500 ("it failed, as far as we know") nor 202 ("accepted; ask later").
    """
    if status not in (202, 500):
        raise Misuse(f"unknown_status must be 500 or 202, got {status!r}")
    return status


def problem(error: BackstayError, *, unknown_status: int = 500) -> Problem:
    """Return the answer for `error`.

    Guaranteed: no password of a URL is in it; the texts of errors that describe our own inside (`Misuse`,
    `Unavailable`) are not sent to clients at all. What answers 500 is logged, since nobody else sees it.

    Args:
        error: any error of the library, or a subclass of one.
        unknown_status: what answers `OutcomeUnknown`; the body's `ask` says what to ask with later.
    """
    status = unknown_status if isinstance(error, OutcomeUnknown) else error.http_status
    document: dict[str, object] = {
        "type": "urn:backstay:" + _kind(error),
        "title": error.title,
        "status": status,
        "detail": _detail(error),
    }
    if isinstance(error, OutcomeUnknown) and error.ask:
        document["ask"] = {key: _plain(value) for key, value in error.ask.items()}
    headers = {"Content-Type": MEDIA_TYPE}
    if isinstance(error, Rejected) and error.retry_after is not None and math.isfinite(error.retry_after):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))  # 0 would mean "at once", again and again
    if status >= 500 and not isinstance(error, Rejected):
        logger.error("answered %d: %s", status, mask("".join(traceback.format_exception(error))))
    return Problem(status=status, headers=headers, body=json.dumps(document, ensure_ascii=False).encode())


def _kind(error: BackstayError) -> str:
    """The library's own class nearest to the error's, in lower case with hyphens: users may subclass."""
    own = next(kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "backstay")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", own.__name__).lower()


def _detail(error: BackstayError) -> str:
    if isinstance(error, Rejected | OutcomeUnknown) or error.http_status < 500:  # what clients can mend, they are told
        return mask(str(error))
    if isinstance(error, errors.Unavailable):
        return "A service that this one needs did not answer. Nothing was changed."
    return "The service is at fault; its log says more."


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float) or value is None else mask(str(value))
