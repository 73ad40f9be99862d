"""Bodies of requests, read within bounds, and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from backstay.problem import MEDIA_TYPE

from .errors import Refused

__all__ = ["LARGEST_DOCUMENT", "LARGEST_REQUEST", "answer", "body_of", "json_of", "problem_answer", "table_of"]

LARGEST_DOCUMENT = 1 << 20
LARGEST_REQUEST = 128 << 10
SECONDS_TO_SEND = 10.0


async def body_of(request: Request, *, at_most: int) -> bytes:
    """Return the body.

    Args:
        request: whose body was not read yet.
        at_most: bytes; reading stops there.

    Raises:
        Refused: 413, it is larger; 408, it took longer than 10 s to come; 400, the client went.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 12 or int(declared) > at_most):
        _too_large(at_most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            async for part in request.stream():
                size += len(part)
                if size > at_most:
                    _too_large(at_most)
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "Too slow", f"a request must arrive within {SECONDS_TO_SEND:.0f} s") from None
    except ClientDisconnect:
        raise Refused(400, "Incomplete", "the request ended before its body did") from None
    return b"".join(parts)


def _too_large(at_most: int) -> NoReturn:
    # Closing tells the client, and the server in between, that nobody will read the rest.
    raise Refused(413, "Too large", f"at most {at_most:,} bytes are read here", headers={"Connection": "close"})


def json_of(body: bytes) -> Any:
    """Return what a body of JSON says.

    Raises:
        Refused: 400, it is no JSON, or says something twice, or a number that JSON does not know.
    """
    try:
        found = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_once)
        json.dumps(
            found, ensure_ascii=False, allow_nan=False
        ).encode()  # an escaped half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise Refused(400, "No JSON", f"the body is no JSON: {error}"[:300]) from None
    return found


async def table_of(request: Request, *, at_most: int = LARGEST_REQUEST) -> dict[str, Any]:
    """Return the JSON object that a request brings.

    Raises:
        Refused: 415, the request does not call it JSON; 400, it is no JSON object; or see `body_of`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused(415, "Not JSON", "send Content-Type: application/json")
    found = json_of(await body_of(request, at_most=at_most))
    if not isinstance(found, dict):
        raise Refused(400, "No table", "the body must be a JSON object")
    return cast("dict[str, Any]", found)


def answer(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """Return a JSON answer that nobody stores."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    found = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, status_code=status, headers=found, media_type=media_type)


def problem_answer(refused: Refused) -> Response:
    """Return a refusal as a problem document (RFC 9457)."""
    slug = refused.title.lower().replace(" ", "-")
    document = {
        "type": f"urn:backstay:switches:{slug}",
        "title": refused.title,
        "status": refused.status,
        "detail": refused.detail,
        **refused.further,
    }
    return answer(document, status=refused.status, headers=refused.headers, media_type=MEDIA_TYPE)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
