"""How long a failed dependency asked to be left alone: `retry_after` of an error, or the header of its response."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["retry_after_of"]


def retry_after_of(error: BaseException) -> float:
    """Return the seconds that an error asks for, 0 where it asks for none or cannot be understood.

    Read are a number in `error.retry_after`, and the header `Retry-After` of `error.response` (httpx, requests).
    A date there is compared with the `Date` of the same response: no clock of ours decides.
    """
    own = getattr(error, "retry_after", None)
    if isinstance(own, int | float) and math.isfinite(own) and own > 0:
        return float(own)
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return 0.0
    try:
        return max(0.0, _of_header(headers.get("Retry-After"), headers.get("Date")))
    except Exception:  # whatever a foreign object did: this is a courtesy, the breaker's own wait remains
        return 0.0


def _of_header(value: Any, date: Any) -> float:
    text = "" if value is None else str(value).strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if not text or date is None:
        return 0.0
    return (parsedate_to_datetime(text) - parsedate_to_datetime(str(date))).total_seconds()
