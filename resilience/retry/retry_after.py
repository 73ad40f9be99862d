"""How long a server asks to be left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["retry_after_of"]


def retry_after_of(error: BaseException | None) -> float | None:
    """Return the seconds after which another attempt makes sense, as the error says, or None.

    Read are `error.retry_after` (every refusal of ours has it) and the header `Retry-After` of `error.response`,
    as httpx and requests have it. A header with a date is measured against the response's own `Date`: our clock
    may differ from the server's.
    """
    given: Any = getattr(error, "retry_after", None)
    if given is None:
        return _from_headers(getattr(getattr(error, "response", None), "headers", None))
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return max(0.0, float(given))


def _from_headers(headers: Any) -> float | None:
    get: Callable[[str], Any] | None = getattr(headers, "get", None)
    if not callable(get):
        return None
    text = get("Retry-After")
    if not isinstance(text, str):
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    stamp = get("Date")
    if not isinstance(stamp, str):
        return None
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(stamp)).total_seconds())
    except (TypeError, ValueError):  # no date; or only one of them knows its time zone
        return None
