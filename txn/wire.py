"""The HTTP form of a request to a branch and of its answer, version 1.  Pure.

    POST {url}/try | {url}/confirm | {url}/cancel
    Backstay-Version: 1
    Backstay-Gtrid: tcc-...        Backstay-Branch: 2
    Content-Type: application/json, the payload as an object

    200 {"status": "done", "result": ...}
    409 {"status": "refused", "reason": "sold out", "detail": ...}       a definite no
    422 {"status": "alarm", "reason": "confirm before try"}              a request no correct coordinator sends
    400 {"status": "invalid", "reason": "..."}                           a malformed request; nothing was run

Everything else, and a body that does not say the same as the status, is no definite answer. A 4xx status
without such a body comes from something that does not know this protocol, such as a router: the request was
not run by a participant (INVALID). 408, 425 and 429 come from proxies that may have passed it on: unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .values import LIMIT, Answer, Branch, Phase, Reply

__all__ = ["BRANCH", "GTRID", "VERSION", "VERSION_HEADER", "answer", "headers", "read_answer", "read_request"]

VERSION = "1"
VERSION_HEADER = "Backstay-Version"
GTRID = "Backstay-Gtrid"
BRANCH = "Backstay-Branch"

_STATUS = {Answer.DONE: 200, Answer.REFUSED: 409, Answer.ALARM: 422, Answer.INVALID: 400, Answer.UNKNOWN: 500}
_UNDECIDED = frozenset({408, 425, 429})


def headers(branch: Branch, traceparent: str | None = None) -> dict[str, str]:
    """Return the headers of a request."""
    found = {
        VERSION_HEADER: VERSION,
        GTRID: branch.gtrid,
        BRANCH: branch.id,
        "Content-Type": "application/json",
    }
    if traceparent is not None:
        found["traceparent"] = traceparent
    return found


def answer(reply: Reply) -> tuple[int, dict[str, Any]]:
    """Return status and body for a reply; the text of an unexpected exception stays in the participant's log."""
    status = _STATUS.get(reply.answer, 500)
    if reply.answer is Answer.DONE:
        return status, {"status": "done", "result": reply.result}
    if reply.answer is Answer.REFUSED:
        return status, {"status": "refused", "reason": reply.text, "detail": reply.detail}
    if reply.answer in (Answer.ALARM, Answer.INVALID):
        return status, {"status": reply.answer.value, "reason": reply.text}
    return status, {"status": "unknown", "reason": "internal error"}


def read_answer(status: int, body: bytes) -> Reply:
    """Return the reply that a status and body mean; what is not certain is UNKNOWN."""
    if len(body) > 2 * LIMIT:
        return Reply(answer=Answer.UNKNOWN, text=f"HTTP {status} with a body of {len(body)} bytes")
    found = _object(body)
    said = None if found is None else found.get("status")
    if status == 200 and found is not None and said == "done":
        return Reply(answer=Answer.DONE, result=found.get("result"))
    if status == 409 and found is not None and said == "refused":
        return Reply(answer=Answer.REFUSED, text=str(found.get("reason", "")), detail=found.get("detail"))
    if status == 422 and found is not None and said == "alarm":
        return Reply(answer=Answer.ALARM, text=str(found.get("reason", "")))
    reason = "" if found is None else str(found.get("reason", found.get("detail", "")))[:300]
    text = f"HTTP {status} {reason}".rstrip()
    if 400 <= status < 500 and status not in _UNDECIDED and said in (None, "invalid"):
        return Reply(answer=Answer.INVALID, text=text)
    return Reply(answer=Answer.UNKNOWN, text=text)


def read_request(phase: Phase, found: Mapping[str, str], body: bytes) -> Branch | Reply:
    """Return the branch that a request is for, or the INVALID reply it deserves.

    `found` are the headers, looked up without regard to case.
    """
    names = {name.lower(): value for name, value in found.items()}
    version = names.get(VERSION_HEADER.lower(), VERSION)
    if version != VERSION:
        return _invalid(f"this participant speaks version {VERSION} of the protocol, not {version}")
    gtrid, branch = names.get(GTRID.lower(), ""), names.get(BRANCH.lower(), "")
    for header, value in ((GTRID, gtrid), (BRANCH, branch)):
        if not 0 < len(value) <= 64 or not value.isascii() or not value.isprintable():
            return _invalid(f"the header {header} must have 1 to 64 printable ASCII characters")
    if len(body) > LIMIT:
        return _invalid(f"the body has {len(body)} bytes, more than {LIMIT}")
    payload = _object(body)
    if payload is None:
        return _invalid("the body must be a JSON object")
    return Branch(gtrid=gtrid, id=branch, phase=phase, payload=payload)


def _invalid(text: str) -> Reply:
    return Reply(answer=Answer.INVALID, text=text)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
