from __future__ import annotations

import copy
import pickle

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
    Rejected,
    Unavailable,
)

STATUSES: dict[type[BackstayError], int] = {
    BackstayError: 500,
    Rejected: 503,
    RateLimited: 429,
    BulkheadFull: 503,
    BreakerOpen: 503,
    NotAcquired: 409,
    Degraded: 503,
    Unavailable: 503,
    OutcomeUnknown: 500,
    Misuse: 500,
    MissingExtra: 500,
}


def test_every_error_has_its_status_and_a_title() -> None:
    assert {kind: kind.http_status for kind in STATUSES} == STATUSES
    assert {kind.__name__ for kind in STATUSES} == set(errors.__all__)
    assert all(kind.title and kind.title[0].isupper() for kind in STATUSES)


@pytest.mark.parametrize("kind", [RateLimited, BulkheadFull, BreakerOpen, NotAcquired, Degraded])
def test_every_refusal_is_a_rejection_and_no_other_branch(kind: type[Rejected]) -> None:
    assert issubclass(kind, Rejected)
    assert not issubclass(kind, Unavailable | OutcomeUnknown | Misuse)


def test_no_error_belongs_to_two_answers() -> None:
    branches = (Rejected, Unavailable, OutcomeUnknown, Misuse)
    for kind in STATUSES:
        if kind is not BackstayError:
            assert sum(issubclass(kind, branch) for branch in branches) == 1, kind


def test_misuse_is_a_value_error_and_a_missing_extra_an_import_error_as_well() -> None:
    assert issubclass(Misuse, ValueError)
    assert issubclass(MissingExtra, ImportError)
    with pytest.raises(ImportError, match="pip install"):
        raise MissingExtra("'redis' is not installed; pip install 'backstay[redis]'")


def test_the_text_is_the_message() -> None:
    text = "lock 'orders/7' is held by web-3; retry in 1.2 s"
    assert str(NotAcquired(text, retry_after=1.2)) == text
    assert str(OutcomeUnknown("ask", ask={"gtrid": "g1"})) == "ask"


@pytest.mark.parametrize("clone", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_survive_the_way_to_another_process_with_what_they_carry(clone: object) -> None:
    assert callable(clone)
    limited = clone(RateLimited("slow down", retry_after=0.25))
    unknown = clone(OutcomeUnknown("who knows", ask={"gtrid": "g1", "fence": 7}))
    assert (type(limited), str(limited), limited.retry_after) == (RateLimited, "slow down", 0.25)
    assert (type(unknown), str(unknown), unknown.ask) == (OutcomeUnknown, "who knows", {"gtrid": "g1", "fence": 7})
    assert str(clone(MissingExtra("install it"))) == "install it"


def test_what_to_ask_is_a_copy_of_what_was_given() -> None:
    ask: dict[str, object] = {"gtrid": "g1"}
    error = OutcomeUnknown("?", ask=ask)
    ask["gtrid"] = "changed"
    assert error.ask == {"gtrid": "g1"}
    assert OutcomeUnknown("?").ask == {}
    assert Rejected("no").retry_after is None
