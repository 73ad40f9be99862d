"""OFREP 0.3: single and bulk evaluation, ETags, event streams by tickets; and what a switch is as a flag."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backstay.resilience.switch_service.routes.ofrep import changed
from backstay.resilience.switch_service.tickets import read_ticket, ticket
from backstay.resilience.switches.evaluation import bucket_of
from unit.resilience.switch_service.desk import CONFIG, SCOPE, Desk

FLAGS = f"{CONFIG}/ofrep/v1/evaluate/flags"
SPLIT = {"variants": {"small": 20, "large": 100}, "default": "small", "split": {"large": 50}}


def evaluate(desk: Desk, name: str, key: str | None = None, **options: Any) -> Any:
    context = {} if key is None else {"targetingKey": key}
    return desk.ask("POST", f"{FLAGS}/{name}", "reader", json={"context": context}, **options)


def test_a_boolean_switch_is_a_boolean_flag(desk: Desk) -> None:
    desk.change(0, reason="stock database down", catalogue=False, recommendations=True)
    off, on = evaluate(desk, "catalogue").json(), evaluate(desk, "recommendations").json()
    assert off == {
        "key": "catalogue", "value": False, "variant": "off", "reason": "DISABLED",
        "metadata": {"scope": SCOPE, "version": 1, "why": "stock database down"},
    }  # fmt: skip
    assert (on["value"], on["variant"], on["reason"]) == (True, "on", "STATIC")


def test_a_share_is_the_same_as_in_every_python_process(desk: Desk) -> None:
    desk.change(0, page_size=SPLIT, beta={"enabled": True, "percentage": 25})
    for number in range(50):
        key = f"customer-{number}"
        large = bucket_of("page_size", key) < 50_000
        found = evaluate(desk, "page_size", key).json()
        assert (found["value"], found["variant"], found["reason"]) == (
            (100, "large", "SPLIT") if large else (20, "small", "SPLIT")
        )
        assert evaluate(desk, "beta", key).json()["value"] is (bucket_of("beta", key) < 25_000)
    without = evaluate(desk, "page_size").json()
    assert (without["value"], without["reason"]) == (20, "UNKNOWN")


def test_a_switch_that_ran_out_counts_as_left_out(desk: Desk) -> None:
    change = {"section": "switches", "name": "a", "value": False}
    body = {"base": 0, "reason": "x", "until": "2026-11-24T02:01:00Z", "changes": [change]}
    assert desk.ask("PATCH", CONFIG, json=body).status_code == 200
    assert evaluate(desk, "a").json()["value"] is False
    desk.now_ms += 60_000
    assert evaluate(desk, "a").json()["value"] is True


def test_what_cannot_be_evaluated_says_so_in_the_words_of_the_protocol(desk: Desk) -> None:
    desk.change(0, a=True)
    missing = evaluate(desk, "b")
    assert (missing.status_code, missing.json()["errorCode"], missing.json()["key"]) == (404, "FLAG_NOT_FOUND", "b")
    for body, code in (
        ("{", "PARSE_ERROR"),
        ("[]", "PARSE_ERROR"),
        ('{"context": 7}', "INVALID_CONTEXT"),
        ('{"context": {"targetingKey": {}}}', "INVALID_CONTEXT"),
    ):
        for path in (FLAGS, f"{FLAGS}/a"):
            answer = desk.ask("POST", path, "reader", content=body)
            assert (answer.status_code, answer.json()["errorCode"]) == (400, code)
            assert ("key" in answer.json()) == (path != FLAGS)
    assert desk.ask("POST", f"{FLAGS}/a", "reader").status_code == 200  # no body at all is an empty context
    assert desk.ask("POST", f"{FLAGS}/a", "reader", content=b" " * 200_000).status_code == 413


def test_all_flags_come_with_an_etag_that_holds_for_the_same_key_only(desk: Desk) -> None:
    desk.change(0, page_size=SPLIT, a=True)
    small = next(f"c{n}" for n in range(99) if bucket_of("page_size", f"c{n}") >= 50_000)
    large = next(f"c{n}" for n in range(99) if bucket_of("page_size", f"c{n}") < 50_000)

    def ask(key: str, query: str = "", **headers: str) -> Any:
        return desk.ask("POST", FLAGS + query, "reader", json={"context": {"targetingKey": key}}, headers=headers)

    first = ask(small)
    assert [flag["key"] for flag in first.json()["flags"]] == ["a", "page_size"]
    held = {"If-None-Match": first.headers["etag"]}
    assert ask(small, **held).status_code == 304
    assert ask(large, **held).status_code == 200
    config = desk.ask("GET", CONFIG).headers["etag"]
    assert ask(small, f"?flagConfigEtag={config.replace(chr(34), '%22')}", **held).status_code == 304
    assert ask(small, "?flagConfigEtag=%22another%22", **held).status_code == 200
    desk.change(1, a=False)
    assert ask(small, **held).status_code == 200


def test_a_token_for_one_scope_needs_no_scope_in_the_url(desk: Desk) -> None:
    desk.change(0, a=True)
    desk.tokens["one"] = desk.store.holders.add("one", "reader", [SCOPE], by="test").text
    assert desk.ask("POST", "/ofrep/v1/evaluate/flags/a", "one").json()["value"] is True
    assert desk.ask("POST", "/ofrep/v1/evaluate/flags/a", "reader").json()["errorCode"] == "GENERAL"
    named = {"X-Backstay-Scope": SCOPE}
    assert desk.ask("POST", "/ofrep/v1/evaluate/flags/a", "reader", headers=named).json()["value"] is True
    assert desk.ask("POST", "/ofrep/v1/evaluate/flags/a", "one", headers={"X-Backstay-Scope": "a/b"}).status_code == 403
    by_key = desk.client.post("/ofrep/v1/evaluate/flags/a", headers={"X-API-Key": desk.tokens["one"]})
    assert by_key.json()["value"] is True


def test_flags_with_slashes_in_their_names_are_found(desk: Desk) -> None:
    named: dict[str, Any] = {"checkout/v2": True}
    desk.change(0, **named)
    assert evaluate(desk, "checkout/v2").json()["value"] is True


def test_all_flags_name_a_stream_whose_url_lets_in_for_events_only(desk: Desk) -> None:
    desk.change(0, a=True)
    (stream,) = desk.ask("POST", FLAGS, "reader", json={}).json()["eventStreams"]
    assert (stream["type"], stream["inactivityDelaySec"]) == ("sse", 120)
    assert stream["url"].startswith("http://switches.test/ofrep/v1/events?ticket=")
    text = stream["url"].partition("ticket=")[2]
    assert desk.tokens["reader"].split("_", 2)[2] not in stream["url"]
    key = desk.store.holders.signing_key()
    assert read_ticket(key, text, desk.now_ms) == (SCOPE, desk.tokens["reader"].split("_")[1])
    assert desk.client.get("/v1/scopes", headers={"Authorization": f"Bearer {text}"}).status_code == 401
    desk.now_ms += 24 * 3600 * 1000
    assert desk.client.get(stream["url"]).status_code == 401
    desk.now_ms -= 1
    desk.ask("DELETE", f"/v1/tokens/{desk.tokens['reader'].split('_')[1]}", "admin")
    assert desk.client.get(stream["url"]).status_code == 401


@pytest.mark.parametrize(
    "spoil",
    [lambda t: t[1:], lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: "", lambda t: t.partition(".")[0]],
)
def test_a_ticket_that_was_changed_is_none(spoil: Any) -> None:
    key = b"k" * 32
    made = ticket(key, SCOPE, "0" * 12, 1000)
    assert read_ticket(key, made, 999) == (SCOPE, "0" * 12)
    assert read_ticket(key, made, 1000) is None
    assert read_ticket(b"x" * 32, made, 0) is None
    assert read_ticket(key, spoil(made), 0) is None


def test_the_event_of_a_change_is_the_one_that_providers_know(desk: Desk) -> None:
    desk.change(0, a=True)
    posted = desk.app.state.service.board[SCOPE]
    lines = dict(line.split(": ", 1) for line in changed(posted).decode().strip().splitlines())
    assert (lines["event"], lines["id"]) == ("message", str(posted.envelope.cursor))
    data = json.loads(lines["data"])
    assert (data["type"], data["etag"], data["lastModified"]) == ("refetchEvaluation", posted.etag, desk.now_ms // 1000)
