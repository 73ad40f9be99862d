"""Pipelines from documents: checked whole, applied whole, round the same state; mistakes named, nothing changed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import MissingExtra, Misuse, Unavailable
from backstay.resilience import Switches
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen, State
from backstay.resilience.fallback import Fallback
from backstay.resilience.pipeline import OrderWarning, Pipeline, Pipelines, load_pipelines
from backstay.testing import measured

TOML = """
schema = 1

[pipelines.payments]
limit = { rate = "100/second;burst=200", key = "order:{order_id}" }
retry = 3
breaker = { consecutive = 2, open_for = 60 }
bulkhead = 8
fallback = { answer = "later", on = ["Rejected", "ConnectionError"] }

[pipelines.catalogue]
bulkhead = { max_concurrent = 4, max_wait = 0.5 }
deadline = 2.0
"""
YAML = """
schema: 1
pipelines:
  payments:
    limit: {rate: 100/second;burst=200, key: "order:{order_id}"}
    retry: 3
    breaker: {consecutive: 2, open_for: 60}
    bulkhead: 8
    fallback: {answer: later, on: [Rejected, ConnectionError]}
  catalogue:
    bulkhead: {max_concurrent: 4, max_wait: 0.5}
    deadline: 2.0
"""
TREE: dict[str, Any] = {
    "pipelines": {
        "payments": {
            "limit": {"rate": "100/second;burst=200", "key": "order:{order_id}"},
            "retry": 3,
            "breaker": {"consecutive": 2, "open_for": 60},
            "bulkhead": 8,
            "fallback": {"answer": "later", "on": ["Rejected", "ConnectionError"]},
        },
        "catalogue": {"bulkhead": {"max_concurrent": 4, "max_wait": 0.5}, "deadline": 2.0},
    }
}


def forms(tmp_path: Path) -> dict[str, Pipelines]:
    files = {"a.toml": TOML, "a.yaml": YAML, "a.yml": YAML, "a.json": json.dumps(TREE)}
    found = {}
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text)
        found[name] = load_pipelines(path)
    found |= {"text": load_pipelines(TOML), "yaml text": load_pipelines(YAML, form="yaml")}
    return found | {"json text": load_pipelines(json.dumps(TREE), form="json"), "tree": load_pipelines(TREE)}


def test_every_form_says_the_same(tmp_path: Path) -> None:
    shown = {name: [str(found["payments"]), str(found["catalogue"])] for name, found in forms(tmp_path).items()}
    assert len(shown) == 8
    assert all(each == shown["tree"] for each in shown.values())
    payments = load_pipelines(TREE)["payments"]
    assert payments.order == ("operation", "fallback", "rate_limiter", "retry", "circuit_breaker", "bulkhead")

    @payments
    def charge(order_id: int) -> str:
        raise ConnectionError

    assert [charge(1), charge(2)] == ["later", "later"]


def test_a_document_changes_settings_and_keeps_state() -> None:
    pipelines = load_pipelines({"pipelines": {"p": {"breaker": {"consecutive": 1, "open_for": 60}, "bulkhead": 4}}})
    pipeline = pipelines["p"]
    _, breaker, bulkhead = pipeline.policies
    assert isinstance(breaker, CircuitBreaker)
    assert isinstance(bulkhead, Bulkhead)

    @pipeline
    def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fails()
    with bulkhead.admission():
        changed = pipelines.apply({"pipelines": {"p": {"breaker": {"consecutive": 9}, "bulkhead": 7}}})
        assert (changed, bulkhead.in_use) == (True, 1)
    assert pipelines["p"] is pipeline
    assert pipeline.policies[1:] == (breaker, bulkhead)
    assert (breaker.state, breaker.settings.consecutive) == (State.OPEN, 9)
    assert bulkhead.settings.max_concurrent == 7
    with pytest.raises(CircuitOpen):
        fails()


def test_the_same_document_again_changes_nothing_and_says_so() -> None:
    with measured() as seen:
        pipelines = load_pipelines(TREE)
        before = pipelines["payments"].policies
        assert pipelines.apply(TREE) is False
        assert pipelines["payments"].policies == before
        with pytest.raises(Misuse):
            pipelines.apply("[pipelines.payments]\nretries = 3")
    results = {
        result: seen.count("config.applies", source="pipelines", result=result)
        for result in ("applied", "unchanged", "invalid")
    }
    assert results == {"applied": 1, "unchanged": 1, "invalid": 1}


def test_policies_come_and_go_by_document_and_code_is_the_ground(caplog: pytest.LogCaptureFixture) -> None:
    pipelines = Pipelines()
    bulkhead = Bulkhead("own", max_concurrent=2)
    own = pipelines.define("own", bulkhead)
    pipelines.apply({"pipelines": {"own": {"breaker": True, "bulkhead": 5}, "other": {"retry": 2}}})
    assert own.order == ("operation", "circuit_breaker", "bulkhead")
    breaker = own.policies[1]
    pipelines.apply({"pipelines": {"own": {"breaker": {"consecutive": 3}}, "other": {"retry": 2}}})
    assert own.policies[1] is breaker
    assert bulkhead.settings.max_concurrent == 2
    pipelines.apply({"pipelines": {"own": {"bulkhead": False}, "other": {"retry": 2}}})
    assert own.order == ("operation",)
    pipelines.apply({"pipelines": {}})
    assert own.policies[1:] == (bulkhead,)
    assert pipelines["other"].order == ("operation",)
    assert "no longer has other" in caplog.text


def test_a_fallback_of_code_is_told_otherwise_by_a_document() -> None:
    pipeline = Pipeline("told", Fallback("told", answer="code", on=ConnectionError))

    @pipeline
    def fails() -> str:
        raise ConnectionError

    assert fails() == "code"
    pipeline.reconfigure({"fallback": {"answer": "document", "on": "ConnectionError"}})
    assert fails() == "document"
    pipeline.reconfigure({})
    assert fails() == "code"


def test_a_document_may_name_a_switch_where_switches_are_given() -> None:
    switches = Switches.connect("memory://", defaults={"feed": False}, interval=None)
    document = {"pipelines": {"feed": {"switch": "feed", "fallback": "static"}}}
    assert load_pipelines(document, switches=switches)["feed"](lambda: "real")() == "static"
    with pytest.raises(Misuse, match="needs switches="):
        load_pipelines(document)
    with pytest.raises(Misuse, match="known: feed"):
        Pipeline.from_config("feed", {"switch": "fed"}, switches=switches)


def test_CO2_a_document_may_give_an_order_and_is_warned_of_known_mistakes() -> None:
    pipeline = Pipeline.from_config("ordered", {"retry": 2, "bulkhead": 3})
    with pytest.warns(OrderWarning, match="retry inside bulkhead"):
        pipeline.reconfigure({"retry": 2, "bulkhead": 3, "order": ["bulkhead", "retry"]})
    assert pipeline.order == ("operation", "bulkhead", "retry")
    pipeline.reconfigure({"retry": 2, "bulkhead": 3})
    assert pipeline.order == ("operation", "retry", "bulkhead")


WRONG: list[tuple[Any, str]] = [
    ("[pipelines.a", "no TOML"),
    ("x = 1", "needs a table 'pipelines'"),
    ("pipelines = 3", "needs a table 'pipelines'"),
    ("pipeline = 3\n[pipelines.a]", "unknown entry 'pipeline'.*known: schema, pipelines"),
    ("schema = 2\n[pipelines.a]", "schema 2"),
    ("[pipelines]\na = 3", "pipeline 'a': expected a table"),
    ("[pipelines.a]\nbulkhed = 3", "pipeline 'a' has no policy 'bulkhed'; known: attempt_timeout, breaker, bulkhead,"),
    ("[pipelines.a]\nbulkhead = { max = 3 }", "bulkhead of 'a': .*no setting 'max'; known: max_concurrent, max_wait"),
    ("[pipelines.a]\nbulkhead = 0", "bulkhead of 'a': max_concurrent must be .* at least 1, got 0"),
    ("[pipelines.a]\nbulkhead = 'many'", "bulkhead of 'a'"),
    ("[pipelines.a]\nretry = { attempts = -1 }", "retry of 'a'"),
    ("[pipelines.a]\nbreaker = { failure_rate = 3.0 }", "breaker of 'a'"),
    ("[pipelines.a]\ntimeout = 0", "timeout of 'a'"),
    ("[pipelines.a]\nattempt_timeout = 'soon'", "attempt_timeout of 'a'"),
    ("[pipelines.a]\nlimit = '3/fortnite'", "limit of 'a': .*known: second"),
    ("[pipelines.a]\nlimit = { rate = '3/second', keys = 'x' }", "limit of 'a': .*no setting 'keys'; known: "),
    ("[pipelines.a]\nlimit = { key = 'x' }", "limit of 'a': .*needs 'rate'"),
    ("[pipelines.a]\nswitch = 3", "switch of 'a'"),
    ("[pipelines.a]\norder = ['retry', 'retry']", "names 'retry' twice"),
    ("[pipelines.a]\nbulkhead = 3\norder = ['retry']", "order leaves out 'bulkhead'"),
    ("[pipelines.a]\norder = 'given'", "list of kinds|order"),
    ({"pipelines": {3: {}}}, "named by a text"),
    ({"pipelines": {"a": {3: 4}}}, "no policy '3'"),
    (["pipelines"], "a path, a text or a mapping"),
    ("x" * (1 << 21), "at most 1,048,576"),
]


@pytest.mark.parametrize(("document", "told"), WRONG)
def test_a_wrong_document_is_refused_whole_and_the_old_configuration_stays(document: Any, told: str) -> None:
    pipelines = load_pipelines({"pipelines": {"a": {"bulkhead": 2}, "b": {"retry": 2}}})
    before = {name: (pipelines[name].policies, str(pipelines[name])) for name in pipelines}
    with pytest.raises(Misuse, match=told):
        pipelines.apply(document)
    assert {name: (pipelines[name].policies, str(pipelines[name])) for name in pipelines} == before


def test_one_wrong_pipeline_keeps_all_the_others_as_they_were() -> None:
    pipelines = load_pipelines({"pipelines": {"a": {"bulkhead": 2}, "b": {"bulkhead": 2}}})
    with pytest.raises(Misuse):
        pipelines.apply({"pipelines": {"a": {"bulkhead": 7}, "b": {"bulkhead": 0}, "c": {}}})
    assert "max_concurrent=2" in str(pipelines["a"])
    assert list(pipelines) == ["a", "b"]
    with pytest.raises(Misuse, match="no pipeline 'c'; known: a, b"):
        pipelines["c"]


def test_a_document_that_does_not_fit_a_protected_function_is_refused_whole() -> None:
    pipelines = load_pipelines({"pipelines": {"a": {"bulkhead": 2}, "b": {}}})

    @pipelines["b"]
    def rows() -> Any:
        yield 1

    with pytest.raises(Misuse, match="retry.* cannot go round .*rows"):
        pipelines.apply({"pipelines": {"a": {"bulkhead": 7}, "b": {"retry": 2}}})
    assert "max_concurrent=2" in str(pipelines["a"])
    assert list(rows()) == [1]


def test_a_policy_that_refuses_its_settings_late_takes_everything_back() -> None:
    """A fallback hears only when it is changed that its answer does not fit what it covers."""
    pipelines = Pipelines()
    first = Bulkhead("first", max_concurrent=2)
    pipelines.define("a", first)
    last = pipelines.define("z", Fallback("z", answer=lambda order_id: "code"), Bulkhead("z", max_concurrent=2))

    @last
    def charge(order_id: int) -> str:
        return "real"

    document = {"pipelines": {"a": {"bulkhead": 5}, "z": {"fallback": {"answer": lambda: 1}, "bulkhead": 5}}}
    with pytest.raises(Misuse):
        pipelines.apply(document)
    assert first.settings.max_concurrent == 2
    assert "max_concurrent=2" in str(last)
    assert charge(1) == "real"


def test_files_that_cannot_be_read_and_yaml_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"absent\.toml cannot be read"):
        load_pipelines(tmp_path / "absent.toml")
    with pytest.raises(Misuse, match="ends in"):
        load_pipelines(tmp_path / "pipelines.ini")
    (tmp_path / "broken.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Unavailable, match="cannot be read"):
        load_pipelines(tmp_path / "broken.toml")
    with pytest.raises(Misuse, match="no YAML"):
        load_pipelines("a: [", form="yaml")
    with pytest.raises(Misuse, match="form must be"):
        load_pipelines("a: [", form="ini")  # type: ignore[arg-type]  # the mistake that is tested
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"backstay\[yaml\]"):
        load_pipelines(YAML, form="yaml")


def test_pipelines_of_code_join_by_name_and_only_one_of_each() -> None:
    pipelines = Pipelines()
    made = Pipeline("joined", Bulkhead("joined", max_concurrent=2))
    pipelines.register(made)
    pipelines.register(made)
    pipelines.apply({"pipelines": {"joined": {"bulkhead": 4}}})
    assert "max_concurrent=4" in str(made)
    assert ("joined" in pipelines, len(pipelines), repr(pipelines)) == (True, 1, "Pipelines(joined)")
    with pytest.raises(Misuse, match="already"):
        pipelines.define("joined")


def test_several_policies_of_one_word_are_changed_by_code_only() -> None:
    pipeline = Pipeline("several", Bulkhead("a"), Bulkhead("b"))
    with pytest.raises(Misuse, match="several policies of 'bulkhead'"):
        pipeline.reconfigure({"bulkhead": 3})


def test_documents_applied_by_many_threads_leave_one_of_them() -> None:
    pipelines = load_pipelines({"pipelines": {name: {"bulkhead": 1} for name in "abc"}})

    def push(permits: int) -> None:
        for _ in range(20):
            pipelines.apply({"pipelines": {name: {"bulkhead": permits} for name in "abc"}})

    threads = [threading.Thread(target=push, args=(permits,)) for permits in (2, 3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    shown = {str(pipelines[name]).partition("\n")[2] for name in "abc"}
    assert len(shown) == 1
