"""What clients send: bounded while it is read, and nothing in it breaks the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.requests import Request
from starlette.types import Message

from backstay.resilience.switch_service import requests
from backstay.resilience.switch_service.errors import Refused
from unit.resilience.switch_service.desk import CONFIG, SCOPE, Desk

JSON = {"Content-Type": "application/json"}


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(desk: Desk) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(2 << 20)}
    answer = desk.ask("PATCH", CONFIG, headers=headers, content=iter([b"{}"]))
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    huge = desk.ask("PATCH", CONFIG, headers={**headers, "Content-Length": "9" * 30}, content=iter([b"{}"]))
    assert huge.status_code == 413


def test_a_body_that_does_not_say_its_size_is_cut_while_it_is_read(desk: Desk) -> None:
    given_out = 0

    def endless() -> Iterator[bytes]:
        nonlocal given_out
        for _ in range(64):
            given_out += 1
            yield b" " * 65536

    answer = desk.ask("PATCH", CONFIG, headers={"Content-Type": "application/json"}, content=endless())
    assert answer.status_code == 413
    assert "1,048,576" in answer.json()["detail"]


@pytest.mark.parametrize(("ending", "status"), [("nothing more", 408), ("the client goes", 400)])
def test_a_body_that_does_not_come_to_an_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, ending: str, status: int
) -> None:
    monkeypatch.setattr(requests, "SECONDS_TO_SEND", 0.02)
    sent: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        if sent:
            return sent.pop()
        if ending == "nothing more":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(Refused) as caught:
        asyncio.run(requests.body_of(Request(scope, receive), at_most=100))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/instances"), ("POST", "/v1/tokens"), ("POST", f"{CONFIG}/rollback")]
)
def test_small_requests_have_a_small_limit(desk: Desk, method: str, path: str) -> None:
    answer = desk.ask(method, path, "admin", json={"x": "y" * 140_000})
    assert answer.status_code == 413


def test_a_document_has_at_most_a_mebibyte(desk: Desk) -> None:
    def fill(base: int, prefix: str) -> int:
        value = {"enabled": True, "reason": "x" * 500}
        changes = [{"section": "switches", "name": f"{prefix}{n}", "value": value} for n in range(1000)]
        body = {"base": base, "reason": "x", "changes": changes}
        return int(desk.ask("PATCH", CONFIG, json=body).status_code)

    assert [fill(0, "a"), fill(1, "b")] == [200, 422]
    assert desk.ask("GET", CONFIG).json()["version"] == 1
    too_many = [{"section": "switches", "name": f"s{n}", "value": True} for n in range(1001)]
    assert desk.ask("PATCH", CONFIG, json={"base": 1, "reason": "x", "changes": too_many}).status_code == 422


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 2}',
     b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a":' * 30_000, b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(desk: Desk, body: bytes) -> None:
    answer = desk.ask("PATCH", CONFIG, headers={"Content-Type": "application/json"}, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
sections = st.sampled_from(["switches", "levels", "pipelines", "x"]) | st.text(max_size=5)
changes = st.fixed_dictionaries(
    {"section": sections, "name": st.text(max_size=8) | st.just("a")},
    optional={"value": json_values, "remove": st.booleans()},
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "base": st.integers(0, 3) | json_values,
        "reason": st.text(max_size=10) | json_values,
        "until": st.none() | st.just("2026-11-24T22:00:00Z") | json_values,
        "changes": st.lists(changes | json_values, max_size=3),
        "dry_run": st.booleans() | json_values,
        "to": json_values,
    },
)
HEARTBEAT = {"scope": SCOPE, "instance": "web-1", "state": "ready"}
heartbeats = st.fixed_dictionaries(
    {},
    optional={
        "scope": st.just(SCOPE) | json_values, "instance": st.text(max_size=10) | json_values, "epoch": json_values,
        "version": json_values, "applied_at": json_values, "state": st.text(max_size=10) | json_values,
        "levels": json_values, "signals": json_values, "delay_s": json_values,
    },
)  # fmt: skip
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(body=patches | json_values)
def test_no_json_breaks_a_change(desk: Desk, body: Any) -> None:
    for method, path in (("PATCH", CONFIG), ("POST", f"{CONFIG}/rollback"), ("PUT", CONFIG)):
        answer = desk.ask(method, path, content=json.dumps(body), headers=JSON)
        assert answer.status_code in (200, 400, 404, 409, 422, 428), answer.text


@FUZZ
@given(body=heartbeats | json_values)
def test_no_json_breaks_a_heartbeat_a_token_or_a_login(desk: Desk, body: Any) -> None:
    if desk.ask("GET", CONFIG).status_code == 404:
        desk.change(0, a=True)
    sent = json.dumps(body)
    assert desk.ask("POST", "/v1/instances", content=sent, headers=JSON).status_code in (200, 400, 403, 404, 422, 429)
    assert desk.ask("POST", "/v1/tokens", "admin", content=sent, headers=JSON).status_code in (400, 422)
    assert desk.client.post("/v1/session", content=sent, headers=JSON).status_code in (400, 401, 429)


@FUZZ
@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", "application/toml", "", "text/plain"]))
def test_no_bytes_break_anything(desk: Desk, body: bytes, kind: str) -> None:
    for method, path in (("PATCH", CONFIG), ("PUT", CONFIG), ("POST", "/v1/instances"), ("POST", "/v1/session")):
        answer = desk.ask(method, path, content=body, headers={"Content-Type": kind, "If-None-Match": "*"})
        assert answer.status_code in (200, 400, 401, 409, 415, 422, 428, 429), answer.text


@FUZZ
@given(tail=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30))
def test_no_path_or_query_breaks_anything(desk: Desk, tail: str) -> None:
    for path in (f"/v1/config/{tail}", f"{CONFIG}/versions/{tail}", f"{CONFIG}?wait={tail}&format={tail}",
                 f"/v1/levels/{SCOPE}?since={tail}", f"/v1/audit?before={tail}", f"/assets/{tail}"):  # fmt: skip
        if "wait=" in path:
            path = path.replace("wait=", "wait=x")
        assert desk.ask("GET", path, "admin").status_code in (200, 304, 400, 404, 405, 422)


@FUZZ
@given(sent=st.binary(max_size=60).filter(lambda text: b"\n" not in text and b"\r" not in text and b"\0" not in text))
def test_no_header_breaks_anything(desk: Desk, sent: bytes) -> None:
    for name in ("Authorization", "X-API-Key", "Cookie", "If-None-Match", "Last-Event-ID", "Prefer"):
        headers: Any = {name: sent}
        assert desk.client.get(CONFIG, headers=headers).status_code in (401, 404, 429)
        if name not in ("Authorization", "Prefer"):
            assert desk.ask("GET", CONFIG, headers=headers).status_code in (200, 304, 404)
