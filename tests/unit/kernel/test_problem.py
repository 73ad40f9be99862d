"""Errors as HTTP answers, without any framework."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from backstay import errors
from backstay.errors import (
    BackstayError,
    BreakerOpen,
    BulkheadFull,
    Degraded,
    MissingExtra,
    Misuse,
    NotAcquired,
    OutcomeUnknown,
    RateLimited,
    Unavailable,
)
from backstay.locks import LockLost
from backstay.locks.guards import StaleFence
from backstay.problem import MEDIA_TYPE, check_unknown_status, problem
from backstay.url import mask

SECRET = "hunter2"
LEAK = f"cannot reach redis://app:{SECRET}@h:6379/0?token={SECRET}"


def document(error: BackstayError, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(problem(error, **options).body)
    return found


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RateLimited("x"), 429, "urn:backstay:rate-limited"),
        (BulkheadFull("x"), 503, "urn:backstay:bulkhead-full"),
        (BreakerOpen("x"), 503, "urn:backstay:breaker-open"),
        (NotAcquired("x"), 409, "urn:backstay:not-acquired"),
        (Degraded("x"), 503, "urn:backstay:degraded"),
        (Unavailable("x"), 503, "urn:backstay:unavailable"),
        (OutcomeUnknown("x"), 500, "urn:backstay:outcome-unknown"),
        (Misuse("x"), 500, "urn:backstay:misuse"),
        (MissingExtra("x"), 500, "urn:backstay:missing-extra"),
        (BackstayError("x"), 500, "urn:backstay:backstay-error"),
    ],
)
def test_each_kind_has_its_answer(error: BackstayError, status: int, kind: str) -> None:
    found = problem(error)
    body = json.loads(found.body)
    assert found.status == body["status"] == status
    assert found.headers["Content-Type"] == MEDIA_TYPE == "application/problem+json"
    assert body["type"] == kind
    assert body["title"] == error.title
    assert list(body) == ["type", "title", "status", "detail"]


def test_every_error_of_the_library_has_an_answer() -> None:
    for name in errors.__all__:
        assert problem(getattr(errors, name)("x")).status >= 400


def test_a_users_subclass_is_answered_as_the_kind_it_belongs_to() -> None:
    class SoldOut(NotAcquired):
        http_status = 410

    assert document(SoldOut("gone"))["type"] == "urn:backstay:not-acquired"
    assert problem(SoldOut("gone")).status == 410


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(0.0, "1"), (0.001, "1"), (1.0, "1"), (1.001, "2"), (59.2, "60"), (-3.0, "1")],
)
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(retry_after: float, header: str) -> None:
    assert problem(RateLimited("x", retry_after=retry_after)).headers["Retry-After"] == header


@pytest.mark.parametrize("retry_after", [None, float("inf"), float("nan")])
def test_retry_after_is_left_out_where_nobody_can_tell(retry_after: float | None) -> None:
    assert "Retry-After" not in problem(RateLimited("x", retry_after=retry_after)).headers
    assert "Retry-After" not in problem(Unavailable("x")).headers


def test_what_clients_can_mend_they_are_told_and_each_kind_has_its_own_name() -> None:
    found = document(StaleFence("lock 'a': overtaken", lock="a", fence=1, highest=2))
    assert (found["type"], found["status"]) == ("urn:backstay:stale-fence", 409)
    assert found["detail"] == "lock 'a': overtaken"
    lost = document(LockLost("lock 'a' at 10.0.0.7 expired", lock="a", fence=1, reason="expired"))
    assert (lost["type"], lost["status"]) == ("urn:backstay:lock-lost", 500)
    assert "10.0.0.7" not in lost["detail"]


def test_an_unknown_outcome_says_what_to_ask() -> None:
    error = OutcomeUnknown("ask later", ask={"gtrid": "g1", "fence": 7, "at": object, "url": LEAK})
    found = problem(error, unknown_status=202)
    body = json.loads(found.body)
    assert (found.status, body["status"]) == (202, 202)
    assert body["ask"]["gtrid"] == "g1"
    assert body["ask"]["fence"] == 7
    assert SECRET not in found.body.decode()
    assert document(error)["ask"] == body["ask"]


@pytest.mark.parametrize("status", [200, 404, 503, "202", True])
def test_unknown_status_is_one_of_two(status: Any) -> None:
    with pytest.raises(Misuse, match="500 or 202"):
        check_unknown_status(status)


@pytest.mark.parametrize("name", errors.__all__)
def test_no_answer_and_no_log_line_holds_a_secret(name: str, caplog: pytest.LogCaptureFixture) -> None:
    error: BackstayError = getattr(errors, name)(LEAK)
    error.__cause__ = OSError(LEAK)
    with caplog.at_level(logging.DEBUG):
        answer = problem(error)
    assert SECRET not in answer.body.decode()
    assert SECRET not in repr(answer.headers)
    assert SECRET not in caplog.text
    assert mask(LEAK) != LEAK


def test_what_describes_our_inside_is_not_told_to_clients() -> None:
    assert "10.0.0.7" not in document(Unavailable("redis at 10.0.0.7:6379 did not answer in 2 s"))["detail"]
    assert "pay()" not in document(Misuse("template names 'oder_id', but pay() has no such parameter"))["detail"]
    assert (
        document(RateLimited("limit 'purchase' has no tokens left"))["detail"] == "limit 'purchase' has no tokens left"
    )


@pytest.mark.parametrize(
    ("error", "lines"), [(Misuse("m"), 1), (Unavailable("u"), 1), (RateLimited("r"), 0), (Degraded("d"), 0)]
)
def test_failures_are_logged_and_refusals_are_not(
    error: BackstayError, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "backstay.problem"):
        problem(error)
    assert len(caplog.records) == lines
