"""Who may do what: every route by role, sessions and CSRF, limits of attempts, and what the audit keeps of refusals."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from backstay.errors import Misuse
from backstay.resilience.switch_service import tokens
from backstay.resilience.switch_service.access import COOKIE
from backstay.resilience.switch_service.scopes import check_pattern, check_scope, covers
from unit.resilience.switch_service.desk import CONFIG, SCOPE, Desk

# What each answers to nobody, a reader, an operator and an admin of the scope, and an admin of another scope.
# 4xx other than 401 and 403 mean that the caller came through the door and the request was judged.
MATRIX: dict[tuple[str, str], tuple[int, int, int, int, int]] = {
    ("GET", "/v1/scopes"): (401, 200, 200, 200, 200),
    ("GET", "/v1/config/{app}/{env}"): (401, 200, 200, 200, 403),
    ("GET", "/v1/config/{app}/{env}/versions"): (401, 200, 200, 200, 403),
    ("GET", "/v1/config/{app}/{env}/versions/{number}"): (401, 404, 404, 404, 403),
    ("PATCH", "/v1/config/{app}/{env}"): (401, 403, 422, 422, 403),
    ("PUT", "/v1/config/{app}/{env}"): (401, 403, 428, 428, 403),
    ("POST", "/v1/config/{app}/{env}/rollback"): (401, 403, 422, 422, 403),
    ("POST", "/v1/instances"): (401, 422, 422, 422, 422),
    ("GET", "/v1/instances/{app}/{env}"): (401, 200, 200, 200, 403),
    ("GET", "/v1/levels/{app}/{env}"): (401, 200, 200, 200, 403),
    ("GET", "/v1/audit"): (401, 403, 403, 200, 200),
    ("GET", "/v1/tokens"): (401, 403, 403, 200, 200),
    ("POST", "/v1/tokens"): (401, 403, 403, 422, 422),
    ("DELETE", "/v1/tokens/{token_id}"): (401, 403, 403, 404, 404),
    ("POST", "/ofrep/v1/evaluate/flags"): (401, 400, 400, 400, 404),
    ("POST", "/ofrep/v1/evaluate/flags/{key:path}"): (401, 400, 400, 400, 404),
    ("POST", "/v1/config/{app}/{env}/ofrep/v1/evaluate/flags"): (401, 200, 200, 200, 403),
    ("POST", "/v1/config/{app}/{env}/ofrep/v1/evaluate/flags/{key:path}"): (401, 200, 200, 200, 403),
    ("GET", "/ofrep/v1/events"): (401, 401, 401, 401, 401),
    ("POST", "/v1/session"): (401, 401, 401, 401, 401),
    ("GET", "/v1/session"): (401, 401, 401, 401, 401),
    ("DELETE", "/v1/session"): (401, 204, 204, 204, 204),
    ("GET", "/"): (200, 200, 200, 200, 200),
    ("GET", "/assets/{path:path}"): (200, 200, 200, 200, 200),
    ("GET", "/healthz"): (200, 200, 200, 200, 200),
}
# Endless for those who may: they are asked for in test_events and by the tests on real servers.
STREAMS = {("GET", "/v1/config/{app}/{env}/events"): (401, 0, 0, 0, 403)}
CONVERTED = re.compile(r"\{(path|key)\}")  # as the routes have them; OpenAPI knows no converters
WHO = ("", "reader", "operator", "admin", "stranger")
WORDS = {
    "app": "shop",
    "env": "production",
    "number": "7",
    "token_id": "0" * 12,
    "path:path": "app.js",
    "key:path": "recommendations",
}


def path_of(template: str) -> str:
    for word, value in WORDS.items():
        template = template.replace(f"{{{word}}}", value)
    return template


@pytest.mark.parametrize(("method", "template"), [*MATRIX, *STREAMS])
def test_each_route_answers_each_role_as_the_table_says(desk: Desk, method: str, template: str) -> None:
    desk.change(0, recommendations=True)
    answers: list[int] = []
    expected = {**MATRIX, **STREAMS}[method, template]
    for who, wanted in zip(WHO, expected, strict=True):
        if wanted == 0:
            answers.append(0)
            continue
        body: dict[str, Any] | None = {} if method in ("POST", "PATCH") else None
        headers = desk.headers(who) if who else {}
        answers.append(desk.client.request(method, path_of(template), headers=headers, json=body).status_code)
    assert tuple(answers) == expected


def every(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from every(inner.routes)


def test_no_route_is_missing_in_the_table(desk: Desk) -> None:
    there: set[tuple[str, str]] = set()
    for route in every(desk.app.routes):
        if route.path != "/openapi.json":  # says nothing that the source does not
            assert isinstance(route, APIRoute), route
            there |= {(method, route.path) for method in route.methods or ()}
    assert there == {*MATRIX, *STREAMS}


def test_every_route_says_in_the_api_description_which_role_it_needs(desk: Desk) -> None:
    paths = desk.client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, described in methods.items():
            nobody, reader, operator, *_ = {**MATRIX, **STREAMS}[method.upper(), CONVERTED.sub(r"{\1:path}", path)]
            role = described["x-backstay-role"]
            assert (role == "") == (nobody == 200 or (method, path) == ("post", "/v1/session")), path
            assert (role == "session") == (path == "/v1/session" and method != "post"), path
            assert (role == "ticket") == (path == "/ofrep/v1/events"), path
            assert (role == "operator") == (reader == 403 and operator != 403), path
            assert (role == "admin") == (operator == 403), path


def test_secrets_are_kept_as_digests_only(desk: Desk, tmp_path: Path) -> None:
    session = desk.client.post("/v1/session", json={"token": desk.tokens["operator"]})
    cookie = desk.client.cookies[COOKIE]
    assert session.status_code == 200
    with sqlite3.connect(tmp_path / "switches.db") as connection:
        everything = "\n".join(connection.iterdump())
    connection.close()
    for secret in (*desk.tokens.values(), cookie):
        assert secret.split("_", 2)[2] not in everything
        assert tokens.digest_of(tokens.split(secret, secret[:3])[1]) in everything  # type: ignore[index]


def test_the_first_start_makes_one_token_and_no_later_one_does(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.store.holders.first()
    assert first is not None
    assert desk.store.holders.first() is None
    assert first.text not in repr(first)
    found = desk.store.holders.find(first.id)
    assert found is not None
    assert (found[0].role, found[0].scopes) == ("admin", ("*/*",))
    desk.store.close()


def test_a_token_that_was_ended_is_good_no_longer_and_neither_are_its_sessions(desk: Desk) -> None:
    made = desk.ask(
        "POST", "/v1/tokens", "admin", json={"name": "eve", "role": "operator", "scopes": ["shop/*"]}
    ).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert desk.client.get("/v1/scopes", headers=headers).status_code == 200
    assert desk.client.post("/v1/session", json={"token": made["token"]}).status_code == 200
    assert desk.client.get("/v1/session").json()["name"] == "eve"
    assert desk.ask("DELETE", f"/v1/tokens/{made['id']}", "admin").status_code == 204
    assert desk.client.get("/v1/scopes", headers=headers).status_code == 401
    assert desk.client.get("/v1/session").status_code == 401
    assert desk.client.get("/v1/scopes").status_code == 401
    assert desk.ask("DELETE", f"/v1/tokens/{made['id']}", "admin").status_code == 404
    assert [entry["action"] for entry in desk.audit()][:3] == ["GET /v1/scopes", "token revoked", "login"]


def test_a_token_ends_when_it_was_to_end(desk: Desk) -> None:
    body = {"name": "guest", "role": "reader", "scopes": ["shop/*"], "expires_at": "2026-11-24T02:10:00Z"}
    made = desk.ask("POST", "/v1/tokens", "admin", json=body).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert desk.client.get("/v1/scopes", headers=headers).status_code == 200
    desk.now_ms += 600_000
    assert desk.client.get("/v1/scopes", headers=headers).status_code == 401
    assert desk.ask("POST", "/v1/tokens", "admin", json=body).status_code == 422  # in the past by now


def test_an_admin_of_some_scopes_cannot_make_or_see_tokens_for_more(desk: Desk) -> None:
    for scopes in (["*"], ["shop/production"], ["bank/*"], ["bank/production", "shop/x"]):
        answer = desk.ask("POST", "/v1/tokens", "stranger", json={"name": "x", "role": "admin", "scopes": scopes})
        assert answer.status_code == 422
    one = desk.ask("POST", "/v1/tokens", "stranger", json={"name": "x", "role": "admin", "scopes": ["bank/production"]})
    assert one.status_code == 201
    listed = desk.ask("GET", "/v1/tokens", "stranger").json()["tokens"]
    assert {each["name"] for each in listed} == {"di", "x"}
    operators = desk.tokens["operator"].split("_")[1]
    assert desk.ask("DELETE", f"/v1/tokens/{operators}", "stranger").status_code == 404
    desk.change(0, a=True)
    assert desk.ask("GET", "/v1/audit", "stranger").json()["entries"] == []


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer bst_x",
        "Bearer bst_000000000000_" + "A" * 43,
        "Bearer \x7f",
        "bearer é",
    ],
)
def test_what_is_no_token_opens_nothing(desk: Desk, sent: str) -> None:
    headers: Any = {"Authorization": sent.encode("latin-1")}
    answer = desk.client.get("/v1/scopes", headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (401, "Not known")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_tokens_unknown_to_a_replica_cannot_make_it_ask_its_database_at_will(desk: Desk) -> None:
    asked = 0
    find = desk.store.holders.find

    def counted(token_id: str) -> Any:
        nonlocal asked
        asked += 1
        return find(token_id)

    desk.store.holders.find = counted  # type: ignore[method-assign]  # counts, and is the same
    desk.app.state.service.access._lookups.acquire("testclient", 290)
    for number in range(30):
        bad = {"Authorization": f"Bearer bst_{number:012x}_" + "A" * 43}
        desk.client.get("/v1/scopes", headers=bad)
    assert asked == 10
    desk.seconds += 60.0
    for _ in range(20):
        assert desk.ask("GET", "/v1/scopes").status_code == 200
    assert asked == 11  # a good one is remembered


def test_a_wrong_secret_of_a_known_token_opens_nothing(desk: Desk) -> None:
    desk.ask("GET", "/v1/scopes")  # it is remembered now
    wrong = desk.tokens["operator"][:-1] + ("A" if desk.tokens["operator"][-1] != "A" else "B")
    assert desk.client.get("/v1/scopes", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    as_session = desk.tokens["operator"].replace("bst_", "bss_")
    assert desk.client.get("/v1/scopes", headers={"Authorization": f"Bearer {as_session}"}).status_code == 401


def test_a_change_by_cookie_needs_the_csrf_token_and_the_same_site(desk: Desk) -> None:
    answer = desk.client.post("/v1/session", json={"token": desk.tokens["operator"]})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    csrf = answer.json()["csrf"]
    body = {"base": 0, "reason": "x", "changes": [{"section": "switches", "name": "a", "value": True}]}

    def change(headers: dict[str, str]) -> int:
        return int(desk.client.patch(CONFIG, json=body, headers=headers).status_code)

    assert change({}) == 403
    assert change({"X-CSRF-Token": csrf[:-1] + "x"}) == 403
    assert change({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}) == 403
    assert change({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-site"}) == 403
    assert change({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-origin"}) == 200
    assert desk.client.get("/v1/session").json()["csrf"] == csrf
    assert desk.client.get(CONFIG).status_code == 200  # reading needs the cookie alone
    refused = [entry for entry in desk.audit() if entry["outcome"] == "refused"]
    assert [entry["action"] for entry in refused] == [f"PATCH {CONFIG}"] * 4
    assert desk.client.delete("/v1/session", headers={"X-CSRF-Token": csrf}).status_code == 204
    desk.client.cookies.set(COOKIE, cookie.partition("=")[2].partition(";")[0])
    assert desk.client.get(CONFIG).status_code == 401


def test_a_form_of_another_site_cannot_log_anybody_in(desk: Desk) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        body = f'{{"token": "{desk.tokens["operator"]}"}}'
        answer = desk.client.post("/v1/session", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert "set-cookie" not in answer.headers


def test_a_cookie_is_sent_over_tls_only_where_there_is_tls(desk: Desk) -> None:
    body = {"token": desk.tokens["operator"]}
    plain = desk.client.post("/v1/session", json=body)
    secure = desk.client.post("https://switches.test/v1/session", json=body)
    assert "secure" not in plain.headers["set-cookie"].lower()
    assert "secure" in secure.headers["set-cookie"].lower()
    assert "strict-transport-security" in secure.headers
    assert "strict-transport-security" not in plain.headers


def test_a_session_ends_after_twelve_hours(desk: Desk) -> None:
    desk.client.post("/v1/session", json={"token": desk.tokens["operator"]})
    desk.now_ms += 12 * 3600 * 1000 - 1
    assert desk.client.get("/v1/session").status_code == 200
    desk.now_ms += 1
    assert desk.client.get("/v1/session").status_code == 401


def test_logins_are_limited_by_address_before_the_token_is_looked_at(desk: Desk) -> None:
    answers = [desk.client.post("/v1/session", json={"token": f"guess {n}"}).status_code for n in range(12)]
    assert answers == [401] * 10 + [429] * 2
    right = desk.client.post("/v1/session", json={"token": desk.tokens["admin"]})
    assert right.status_code == 429  # or an attacker could go on guessing
    assert int(right.headers["retry-after"]) >= 1
    desk.seconds += 6.1
    assert desk.client.post("/v1/session", json={"token": desk.tokens["admin"]}).status_code == 200


def test_refused_attempts_are_audited_and_a_flood_of_them_writes_nothing(desk: Desk) -> None:
    bad = {"Authorization": "Bearer bst_000000000000_" + "A" * 43}
    answers = [desk.client.get("/v1/scopes", headers=bad).status_code for _ in range(40)]
    assert answers == [401] * 30 + [429] * 10
    written = [entry for entry in desk.audit() if entry["outcome"] == "refused"]
    assert len(written) == 30
    assert {(entry["who"], entry["action"]) for entry in written} == {("", "GET /v1/scopes")}
    assert desk.ask("GET", "/v1/scopes").status_code == 200  # a good token of the same address is not held up


def test_only_the_latest_refused_attempts_are_kept(desk: Desk) -> None:
    desk.store.records._refused_kept = 150
    for number in range(450):
        desk.store.records.refused(who=f"w{number}", address="a", action="x", scope="", why="no")
    rows, _ = desk.store.records.page(("*/*",), limit=1000)
    kept = [row["who"] for row in rows if row["outcome"] == "refused"]
    assert 150 <= len(kept) <= 250
    assert kept[0] == "w449"
    assert len([row for row in rows if row["outcome"] == "done"]) == 4


def test_what_a_role_may_not_do_is_audited_with_its_name(desk: Desk) -> None:
    assert desk.change(0, who="reader", a=True).status_code == 403
    assert desk.change(0, who="stranger", a=True).status_code == 403
    latest, before = desk.audit()[:2]
    assert (before["who"], before["scope"], before["outcome"]) == ("ada", SCOPE, "refused")
    assert "needs the role operator" in before["why"]
    assert (latest["who"], "bank/production" in latest["why"]) == ("di", True)


def test_answers_forbid_browsers_what_they_could_do_with_them(desk: Desk) -> None:
    page, answer = desk.client.get("/"), desk.ask("GET", "/v1/scopes")
    policy = page.headers["content-security-policy"]
    for word in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert word in policy
    assert "unsafe" not in policy
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    for found in (page, answer, desk.client.get("/nowhere")):
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["x-frame-options"] == "DENY"
        assert found.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


def test_scopes_and_patterns_are_checked() -> None:
    assert check_scope("shop/production") == "shop/production"
    for wrong in ("shop", "shop/", "/x", "a/b/c", "shop/*", "a b/c", "", None, "x" * 64 + "/y"):
        with pytest.raises(Misuse):
            check_scope(wrong)
    assert check_pattern("*") == "*/*"
    for pattern in ("shop", "sh*p/x", "**/x", "", 7):
        with pytest.raises(Misuse):
            check_pattern(pattern)
    assert covers(["shop/*"], "shop/production")
    assert not covers(["shop/*"], "shopping/production")
    assert covers(["*/staging"], "bank/staging")
    assert not covers(["*/staging", "shop/a"], "shop/production")
    assert not covers(["shop/production"], "shop/*")
