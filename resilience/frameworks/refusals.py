"""Refusals as HTTP answers, for middlewares that stand before any framework."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from backstay.errors import BackstayError
from backstay.problem import Problem, problem

__all__ = ["header_pairs", "refusal", "status_line"]


def refusal(error: BackstayError, *, unknown_status: int) -> Problem:
    """Return the answer: status, problem document and `Retry-After` as `backstay.flask` and `backstay.fastapi` do."""
    return problem(error, unknown_status=unknown_status)


def header_pairs(answer: Problem) -> Iterator[tuple[str, str]]:
    """Yield the answer's header fields, its length among them."""
    yield from answer.headers.items()
    yield "Content-Length", str(len(answer.body))


def status_line(status: int) -> str:
    """Return what WSGI calls a status, such as `429 Too Many Requests`."""
    return f"{status} {HTTPStatus(status).phrase}"
