"""Documents by REST: compare-and-set, history, rollback, import and export (SW-8), ETag and long poll (SW-10)."""

from __future__ import annotations

import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse
from backstay.resilience.delivery.envelope import Envelope
from backstay.resilience.switch_service.differences import differences, same
from backstay.resilience.switch_service.exchange import items_of, to_toml
from unit.resilience.switch_service.desk import CONFIG, SCOPE, Desk


def test_SW8_the_first_change_makes_a_scope_and_each_further_one_is_compare_and_set(desk: Desk) -> None:
    assert desk.ask("GET", CONFIG).status_code == 404
    first = desk.change(0, recommendations=False)
    assert (first.status_code, first.json()["version"]) == (200, 1)
    late = desk.change(0, recommendations=True)
    assert (late.status_code, late.json()["version"]) == (409, 1)
    assert late.headers["content-type"] == "application/problem+json"
    assert desk.change(1, recommendations=True).json()["version"] == 2
    read = desk.ask("GET", CONFIG, "reader")
    envelope = Envelope.parse(read.content)
    assert envelope.cursor == (desk.now_ms, 2)
    assert read.headers["etag"] == envelope.etag
    assert envelope.items["switches"]["recommendations"] == {"enabled": True, "reason": "test"}


def test_SW8_of_many_writers_for_one_version_exactly_one_wins(desk: Desk) -> None:
    desk.change(0, a=False)
    gate = threading.Barrier(8)

    def write(number: int) -> int:
        gate.wait()
        return int(desk.change(1, reason=f"writer {number}", a=True, b=number % 2 == 0).status_code)

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(write, range(8)))
    assert answers == [200] + [409] * 7
    versions = desk.ask("GET", f"{CONFIG}/versions").json()["versions"]
    assert [each["version"] for each in versions] == [2, 1]


def test_SW8_history_and_audit_say_who_when_why_old_and_new(desk: Desk) -> None:
    desk.change(0, catalogue=True)
    desk.now_ms += 60_000
    desk.change(1, reason="stock database down", catalogue=False)
    latest = desk.ask("GET", f"{CONFIG}/versions", "reader").json()["versions"][0]
    old, new = {"enabled": True, "reason": "test"}, {"enabled": False, "reason": "stock database down"}
    assert latest["changes"] == [{"section": "switches", "name": "catalogue", "old": old, "new": new}]
    assert (latest["who"], latest["why"], latest["at"]) == ("bo", "stock database down", "2026-11-24T02:01:00.000Z")
    entry = desk.audit()[0]
    assert (entry["who"], entry["action"], entry["scope"], entry["outcome"]) == ("bo", "change", SCOPE, "done")
    assert entry["detail"]["changes"][0]["old"] == old


def test_SW8_history_comes_in_pages(desk: Desk) -> None:
    for version in range(5):
        desk.change(version, a=version % 2 == 0)
    page = desk.ask("GET", f"{CONFIG}/versions?limit=2").json()["versions"]
    assert [each["version"] for each in page] == [5, 4]
    page = desk.ask("GET", f"{CONFIG}/versions?limit=2&before=4").json()["versions"]
    assert [each["version"] for each in page] == [3, 2]
    assert desk.ask("GET", f"{CONFIG}/versions?before=x").status_code == 422


def test_SW8_a_dry_run_says_what_would_change_and_writes_nothing(desk: Desk) -> None:
    desk.change(0, a=True)
    body = {
        "base": 1,
        "reason": "try",
        "dry_run": True,
        "changes": [{"section": "switches", "name": "a", "remove": True}],
    }
    tried = desk.ask("PATCH", CONFIG, json=body).json()
    assert (tried["version"], tried["dry_run"], tried["changes"][0]["new"]) == (2, True, None)
    assert desk.ask("GET", CONFIG).json()["version"] == 1
    assert len(desk.audit()) == 5  # four tokens and one change


def test_SW8_a_change_that_changes_nothing_is_no_version(desk: Desk) -> None:
    desk.change(0, a=True)
    again = desk.change(1, a=True)
    assert (again.status_code, again.json()["version"], again.json()["changes"]) == (200, 1, [])


def test_SW8_rollback_to_any_version_is_a_new_version(desk: Desk) -> None:
    desk.change(0, a=True, b=True)
    desk.change(1, a=False)
    desk.change(2, b=False)
    body = {"base": 3, "to": 1, "reason": "worse than before"}
    assert desk.ask("POST", f"{CONFIG}/rollback", json={**body, "base": 2}).status_code == 409
    assert desk.ask("POST", f"{CONFIG}/rollback", json={**body, "to": 9}).status_code == 404
    done = desk.ask("POST", f"{CONFIG}/rollback", json=body).json()
    assert (done["version"], [each["name"] for each in done["changes"]]) == (4, ["a", "b"])
    first = Envelope.parse(desk.ask("GET", f"{CONFIG}/versions/1").content)
    now = Envelope.parse(desk.ask("GET", CONFIG).content)
    assert now.items == first.items
    assert desk.ask("GET", f"{CONFIG}/versions").json()["versions"][0]["action"] == "rollback"


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("switches", "a", 5),
        ("switches", "bad name", True),
        ("switches", "a", {"enabled": "yes"}),
        ("pipelines", "payments", {"retry": "often"}),
        ("pipelines", "payments", {"no such policy": 1}),
        ("levels", "database", "severe"),
        ("levels", "database", {"force": "terrible"}),
        ("levels", "database", {"pin": "severe"}),
        ("levels", "database", {"thresholds": {"no such signal": 1}}),
        ("levels", "database", {"thresholds": 7}),
        ("levels", "database", {"further": 7}),
        ("levels", "database", {"pin": {"until": "2026-11-24T22:00:00Z"}}),
        ("levels", "database", {"pin": {"level": "severe", "until": "tonight"}}),
        ("unknown", "a", 1),
        ("switches", "a" * 101, True),
    ],
)
def test_SW8_a_document_is_validated_before_it_is_published(desk: Desk, section: str, name: str, value: Any) -> None:
    body = {"base": 0, "reason": "x", "changes": [{"section": section, "name": name, "value": value}]}
    answer = desk.ask("PATCH", CONFIG, json=body)
    assert answer.status_code == 422, answer.text
    assert len(answer.json()["detail"]) > 20
    assert desk.ask("GET", CONFIG).status_code == 404
    refused = desk.audit()[0]
    assert (refused["outcome"], refused["who"], refused["scope"]) == ("refused", "bo", SCOPE)


def test_SW8_a_pin_of_a_level_takes_its_end_from_the_change(desk: Desk) -> None:
    change = {"section": "levels", "name": "database", "value": {"pin": {"level": "severe"}}}
    body = {"base": 0, "reason": "x", "until": "2026-11-24T22:00:00Z", "changes": [change]}
    assert desk.ask("PATCH", CONFIG, json=body).status_code == 200
    pin = {"level": "severe", "until": "2026-11-24T22:00:00Z"}
    assert desk.ask("GET", CONFIG).json()["items"]["levels"]["database"] == {"pin": pin, "reason": "x"}
    forced = {**change, "value": {"force": "severe"}}
    assert desk.ask("PATCH", CONFIG, json={**body, "base": 1, "changes": [forced]}).status_code == 422


def test_SW8_pipelines_are_published_like_switches(desk: Desk) -> None:
    value = {"retry": {"attempts": 3}, "timeout": 2.0, "switch": "payments"}
    body = {"base": 0, "reason": "x", "changes": [{"section": "pipelines", "name": "payments", "value": value}]}
    assert desk.ask("PATCH", CONFIG, json=body).status_code == 200
    assert Envelope.parse(desk.ask("GET", CONFIG).content).items["pipelines"]["payments"] == value


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"base": 0, "reason": "x"},
        {"base": 0, "reason": " ", "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": -1, "reason": "x", "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": True, "reason": "x", "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": 0, "reason": "x", "changes": []},
        {"base": 0, "reason": "x", "changes": [{"section": "switches", "name": "a"}]},
        {"base": 0, "reason": "x", "changes": [{"section": "switches", "name": "a", "value": True, "remove": True}]},
        {"base": 0, "reason": "x", "changes": [{"section": "switches", "name": "a", "value": True}] * 2},
        {"base": 0, "reason": "x", "further": 1, "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": 0, "reason": "x", "until": "night", "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": 0, "reason": "x", "until": "2026-11-24T22:00:00",
         "changes": [{"section": "switches", "name": "a", "value": True}]},
        {"base": 0, "reason": "x", "until": "2026-11-24T22:00:00Z",
         "changes": [{"section": "pipelines", "name": "a", "value": {"retry": 3}}]},
    ],
)  # fmt: skip
def test_a_change_that_is_not_understood_is_refused_whole(desk: Desk, body: dict[str, Any]) -> None:
    answer = desk.ask("PATCH", CONFIG, json=body)
    assert answer.status_code == 422, answer.text
    assert desk.ask("GET", CONFIG).status_code == 404


def test_SW8_import_is_compare_and_set_by_etag_and_export_reads_back(desk: Desk) -> None:
    text = '[switches]\nrecommendations = true\ncatalogue = {enabled = false, reason = "down"}\n'
    toml = {"Content-Type": "application/toml"}
    assert desk.ask("PUT", CONFIG, content=text, headers=toml).status_code == 428
    made = desk.ask("PUT", f"{CONFIG}?reason=start", content=text, headers={**toml, "If-None-Match": "*"})
    assert (made.status_code, made.json()["version"]) == (200, 1)
    assert desk.ask("PUT", CONFIG, content=text, headers={**toml, "If-None-Match": "*"}).status_code == 409
    stale = desk.ask("PUT", CONFIG, content=text, headers={**toml, "If-Match": '"1-1-x"'})
    assert (stale.status_code, stale.json()["version"]) == (412, 1)
    exported = desk.ask("GET", f"{CONFIG}?format=toml", "reader")
    assert exported.headers["content-type"].startswith("application/toml")
    assert tomllib.loads(exported.text) == {"schema": 1, **tomllib.loads(text)}
    again = desk.ask("PUT", CONFIG, content=exported.text, headers={**toml, "If-Match": exported.headers["etag"]})
    assert (again.json()["version"], again.json()["changes"]) == (1, [])
    whole = desk.ask("GET", CONFIG).content
    as_json = desk.ask("PUT", CONFIG, content=whole,
                       headers={"Content-Type": "application/json", "If-Match": made.headers["etag"]})  # fmt: skip
    assert (as_json.status_code, as_json.json()["changes"]) == (200, [])


@pytest.mark.parametrize(
    "text",
    [
        "[switches",
        "switches = 1",
        "[nowhere]\na = 1",
        "schema = 2\n[switches]",
        "[switches]\na = 2026-11-24",
        "[switches]\na = {enabled = true, until = 2026-11-24T22:00:00}",
        "[switches]\na = {enabled = true, percentage = inf}",
    ],
)
def test_a_file_that_is_no_document_is_refused(desk: Desk, text: str) -> None:
    answer = desk.ask("PUT", CONFIG, content=text, headers={"Content-Type": "application/toml", "If-None-Match": "*"})
    assert answer.status_code == 422, answer.text


def test_SW10_an_etag_that_holds_answers_304(desk: Desk) -> None:
    etag = desk.change(0, a=True).headers["etag"]
    held = desk.ask("GET", CONFIG, "reader", headers={"If-None-Match": etag})
    assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", etag)
    assert desk.ask("GET", CONFIG, "reader", headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    assert desk.ask("GET", CONFIG, "reader", headers={"If-None-Match": '"x"'}).status_code == 200


def test_SW10_a_long_poll_answers_when_a_version_is_written(desk: Desk) -> None:
    etag = desk.change(0, a=True).headers["etag"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(desk.ask, "GET", f"{CONFIG}?wait=30", "reader", headers={"If-None-Match": etag})
        while not desk.app.state.service.board._count:
            threading.Event().wait(0.005)
        desk.change(1, a=False)
        answer = waiting.result(10)
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert desk.ask("GET", f"{CONFIG}?wait=0.01", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert (
        desk.ask("GET", CONFIG, headers={"If-None-Match": answer.headers["etag"], "Prefer": "wait=0"}).status_code
        == 304
    )
    assert desk.ask("GET", f"{CONFIG}?wait=nan").status_code == 422


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        names.filter(lambda name: name not in ("schema", "items")),
        st.dictionaries(names, values, max_size=4),
        max_size=3,
    )
)
def test_SW8_toml_keeps_every_value(items: dict[str, dict[str, Any]]) -> None:
    found = items_of(to_toml(items).encode(), "application/toml")
    assert differences(items, found) == ()


def test_toml_has_no_null_and_says_so() -> None:
    with pytest.raises(Misuse, match="export JSON"):
        to_toml({"switches": {"a": [None]}})
    assert to_toml({"levels": {"a": {"force": None}}}).endswith("a = {}\n")


def test_a_number_and_a_boolean_are_not_the_same() -> None:
    assert not same(1, True)
    assert not same({"a": [0]}, {"a": [False]})
    assert same({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})


def test_a_moment_of_toml_is_kept_as_text() -> None:
    found = items_of(b"[switches]\na = {enabled = false, until = 2026-11-24T22:00:00Z}", "application/toml")
    assert found == {"switches": {"a": {"enabled": False, "until": "2026-11-24T22:00:00+00:00"}}}
