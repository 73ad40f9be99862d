"""The pure modules: states, truth table, backoff, settings, values, wire, hosts, identity."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.txn import Backoff, Outcome, Phase, Reply, Settings, State, Tcc, TryRefused
from backstay.txn.barrier import truth
from backstay.txn.errors import AlreadyConfirmed, BarrierAlarm, PayloadMismatch
from backstay.txn.identity import begun, gtrids, owner
from backstay.txn.judge import judge
from backstay.txn.tcc import states
from backstay.txn.tcc.hosts import check, rewrite
from backstay.txn.tcc.states import BRANCH, TRANSACTION, BranchEvent, BranchState, Event, outcome, sources
from backstay.txn.values import LIMIT, Answer, Branch, Target, digest, dump
from backstay.txn.wire import answer, headers, read_answer, read_request

DOCS = Path(__file__).parents[3] / "docs" / "explanation" / "tcc.md"


# --- states ---------------------------------------------------------------------------------------


def test_I3_every_decision_leaves_from_trying_alone() -> None:
    for event in (Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL):
        assert TRANSACTION[event][0] == {State.TRYING}


def test_no_path_leads_from_confirm_to_cancel() -> None:
    def reachable(start: State) -> set[State]:
        found = {start}
        while True:
            more = {to for origins, to in TRANSACTION.values() if origins & found} - found
            if not more:
                return found
            found |= more

    assert reachable(State.CONFIRMING) == {State.CONFIRMING, State.CONFIRMED}
    assert reachable(State.CANCELLING) == {State.CANCELLING, State.CANCELLED}
    assert reachable(State.TRYING) == set(State)


def test_an_ended_branch_never_moves_again_and_a_dead_one_by_an_operator_only() -> None:
    for event, (origins, _) in BRANCH.items():
        assert not origins & {BranchState.CONFIRMED, BranchState.CANCELLED}
        assert (BranchState.DEAD in origins) == (
            event in (BranchEvent.RETRY, BranchEvent.CONFIRM_ACKED, BranchEvent.CANCEL_ACKED)
        )


def test_I4_an_outcome_that_was_told_never_changes() -> None:
    for origins, target in TRANSACTION.values():
        for origin in origins:
            assert outcome(origin) in (Outcome.IN_DOUBT, outcome(target))


def test_sources_are_sorted_texts() -> None:
    assert sources(BranchEvent.TRY_DONE) == ["logged"]
    assert sources(Event.ALL_CONFIRMED) == ["confirming"]


@pytest.mark.parametrize(
    "drawn", [states.draw(TRANSACTION), states.draw(BRANCH), truth.draw()], ids=["transaction", "branch", "barrier"]
)
def test_the_documentation_shows_what_the_code_does(drawn: str) -> None:
    """When this fails, print `draw()` of the table that changed and put it into the page."""
    assert drawn in DOCS.read_text(encoding="utf-8")


def test_the_truth_table_is_complete() -> None:
    cells = {truth.verdict(phase, standing) for phase, standing in itertools.product(Phase, truth.Standing)}
    assert cells == set(truth.Verdict)


# --- backoff and settings -------------------------------------------------------------------------


def test_full_jitter_between_nothing_and_the_doubled_bound() -> None:
    backoff = Backoff(first=0.1, cap=1.0)
    bounds = [backoff.delay(attempts, lambda low, high: high) for attempts in (0, 1, 2, 3, 4, 5, 1000)]
    assert bounds == [0.1, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.delay(9, lambda low, high: low) == 0.0


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"first": 2.0, "cap": 1.0}, {"attempts": 0}])
def test_a_wrong_backoff_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        Backoff(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0.0},
        {"deadline": float("inf")},
        {"deadline": 13 * 3600.0},
        {"timeout": -1.0},
        {"lease": 0.0},
        {"patience": -1.0},
        {"batch": 0},
        {"at_once": 0},
        {"recover_every": float("nan")},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match=next(iter(wrong))):
        Settings(**wrong)


# --- values ---------------------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


@pytest.mark.parametrize("value", [Decimal("1.5"), float("nan"), {1, 2}, b"bytes", object()])
def test_what_is_no_json_is_refused_with_its_name(value: Any) -> None:
    with pytest.raises(Misuse, match="the payload"):
        dump({"value": value}, what="the payload")


def test_a_payload_is_bounded_in_bytes() -> None:
    dump("x" * (LIMIT - 2), what="a text")
    with pytest.raises(Misuse, match="store it and send its id"):
        dump("é" * (LIMIT // 2), what="a text")


@pytest.mark.parametrize(("kind", "address"), [("ftp", "x"), ("http", ""), ("action", "x" * 1001)])
def test_a_target_is_checked(kind: str, address: str) -> None:
    with pytest.raises(Misuse):
        Target(kind=kind, address=address)


# --- wire -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"status": "done", "result": 7}', Answer.DONE),
        (409, b'{"status": "refused", "reason": "sold out"}', Answer.REFUSED),
        (422, b'{"status": "alarm", "reason": "confirm before try"}', Answer.ALARM),
        (400, b'{"status": "invalid", "reason": "no gtrid"}', Answer.INVALID),
        (404, b"Not Found", Answer.INVALID),
        (422, b'{"detail": "from some framework"}', Answer.INVALID),
        (401, b"", Answer.INVALID),
        # Nothing that is not said twice, by status and body, counts as success or refusal.
        (200, b"<html>welcome to the proxy</html>", Answer.UNKNOWN),
        (200, b"{}", Answer.UNKNOWN),
        (200, b'{"status": "refused"}', Answer.UNKNOWN),
        (201, b'{"status": "done"}', Answer.UNKNOWN),
        (409, b'{"status": "done"}', Answer.UNKNOWN),
        (409, b"Conflict", Answer.INVALID),
        (408, b"", Answer.UNKNOWN),
        (425, b"", Answer.UNKNOWN),
        (429, b"", Answer.UNKNOWN),
        (302, b"", Answer.UNKNOWN),
        (500, b'{"status": "unknown"}', Answer.UNKNOWN),
        (502, b"", Answer.UNKNOWN),
        (503, b'{"status": "done"}', Answer.UNKNOWN),
        (200, b'{"status": "done", "result": "' + b"x" * (2 * LIMIT) + b'"}', Answer.UNKNOWN),
    ],
)
def test_what_an_http_answer_means(status: int, body: bytes, expected: Answer) -> None:
    assert read_answer(status, body).answer is expected


@pytest.mark.parametrize(
    "reply",
    [
        Reply(answer=Answer.DONE, result={"a": [1, None]}),
        Reply(answer=Answer.REFUSED, text="sold out", detail={"sku": "a"}),
        Reply(answer=Answer.ALARM, text="confirm before try"),
        Reply(answer=Answer.INVALID, text="no payload"),
        Reply(answer=Answer.UNKNOWN),
    ],
)
def test_an_answer_is_read_as_it_was_written(reply: Reply) -> None:
    import json

    status, body = answer(reply)
    read = read_answer(status, json.dumps(body).encode())
    assert (read.answer, read.result, read.detail) == (reply.answer, reply.result, reply.detail)


def test_a_request_is_read_as_it_was_written() -> None:
    branch = Branch(gtrid="tcc-1", id="2", phase=Phase.CANCEL, payload={"a": 1})
    sent = headers(branch, "00-abc-def-01")
    assert sent["traceparent"] == "00-abc-def-01"
    assert read_request(Phase.CANCEL, {name.upper(): value for name, value in sent.items()}, b'{"a":1}') == branch


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "stock/reservations",
        "ftp://stock/reservations",
        "http://",
        "http://user:secret@stock/x",
        "http://stock/x?y=1",
        "http://stock/x#y",
        "http://[::1/x",
    ],
)
def test_a_wrong_branch_url_is_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(Misuse) as refused:
        check(url)
    assert "secret" not in str(refused.value)


def test_logical_hosts_are_replaced_with_port_and_path() -> None:
    bases = {"stock": "http://127.0.0.1:8001/v2/", "pay:80": "https://payments.example"}
    assert rewrite(check("http://stock/reservations/"), bases) == "http://127.0.0.1:8001/v2/reservations"
    assert rewrite("http://pay:80/charges", bases) == "https://payments.example/charges"
    assert rewrite("http://other/x", bases) == "http://other/x"


# --- identity, errors, actions --------------------------------------------------------------------


def test_ids_are_short_ascii_unique_and_tell_their_beginning() -> None:
    make = gtrids(owner())
    made = {make(3, 1_795_000_000.9) for _ in range(1000)}
    assert len(made) == 1000
    for gtrid in made:
        assert len(gtrid) <= 64
        assert re.fullmatch(r"[\x21-\x7e]+", gtrid)
        assert begun(gtrid) == 1_795_000_000
    assert begun("somebody-elses-id") is None
    assert owner() != owner()


@pytest.mark.parametrize(
    ("phase", "error", "expected"),
    [
        (Phase.TRY, TryRefused("no"), Answer.REFUSED),
        (Phase.CONFIRM, TryRefused("no"), Answer.UNKNOWN),
        (Phase.CANCEL, TryRefused("no"), Answer.UNKNOWN),
        (Phase.CONFIRM, BarrierAlarm("x"), Answer.ALARM),
        (Phase.TRY, PayloadMismatch("x"), Answer.ALARM),
        (Phase.TRY, LookupError("x"), Answer.UNKNOWN),
    ],
)
def test_only_a_try_can_refuse(phase: Phase, error: Exception, expected: Answer) -> None:
    assert judge(phase, error).answer is expected


def test_errors_survive_pickling() -> None:
    import pickle

    refused = pickle.loads(pickle.dumps(TryRefused("sold out", detail={"sku": "a"}, branch="2 stock")))  # our own bytes
    assert (refused.reason, refused.detail, refused.branch) == ("sold out", {"sku": "a"}, "2 stock")
    again = pickle.loads(pickle.dumps(AlreadyConfirmed("x", key="k", gtrid="g", result=3)))  # our own bytes
    assert (again.key, again.gtrid, again.result) == ("k", "g", 3)


def test_an_action_is_checked_when_it_is_made() -> None:
    given: Any = None
    with pytest.raises(Misuse, match="confirm of action 'x' is no function"):
        Tcc("x", try_=print, confirm=given, cancel=print)
    with pytest.raises(Misuse, match="name"):
        Tcc("", try_=print, confirm=print, cancel=print)
