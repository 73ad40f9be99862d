"""Switches: whole documents or nothing, reads without a lock, forks, and mistakes that change nothing (SW-7, SW-9)."""

from __future__ import annotations

import dis
import json
import logging
import os
import sys
import threading
import timeit
from pathlib import Path

import pytest

from backstay.errors import BackstayError, Misuse, Unavailable
from backstay.resilience import Switches
from backstay.resilience.switches import FileSource, MemorySource
from backstay.resilience.switches.document import LARGEST, parse
from backstay.testing import ManualClock, measured


def toml(**switches: bool) -> str:
    return "[switches]\n" + "".join(f"{name} = {str(state).lower()}\n" for name, state in switches.items())


def replace(path: Path, text: str | bytes) -> None:
    """Write a file as an operator should: whole, by a rename."""
    new = path.with_suffix(".new")
    new.write_bytes(text.encode() if isinstance(text, str) else text)
    os.replace(new, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "switches.toml"
    replace(path, toml(recommendations=True, catalogue=False))
    return path


def connect(path: Path, **options: object) -> Switches:
    source = FileSource(path, sleep=lambda seconds: None)
    return Switches(source, interval=None, **options)  # type: ignore[arg-type]  # passed on as they come


# --- documents ---------------------------------------------------------------------------------------


def test_a_switch_may_carry_its_reason() -> None:
    document = parse(b'[switches]\na = {enabled = false, reason = "db down"}\n"b/c" = true\n', form="toml")
    assert document.switches["a"].reason == "db down"
    assert not document.switches["a"].enabled
    assert document.switches["b/c"].enabled


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "needs a table 'switches'"),
        (b"switches = 5", "needs a table 'switches'"),
        (b"[switches]\na = 1", "must be true, false"),
        (b"[switches]\na = 'on'", "must be true, false"),
        (b"[switches]\na = {enabled = 'no'}", "must be true, false"),
        (b"[switches]\na = {enabled = true, until = 7}", "not understood"),
        (b"[switches]\na = {enabled = true, reason = 7}", "not understood"),
        (b"[switches]\n'a b' = true", "letters, digits"),
        (b"[switches]\n'' = true", "letters, digits"),
        (b"[switches]\na = true\na = false", "no TOML"),
        (b"[switches\na = true", "no TOML"),
        (b"\xff\xfe", "no TOML"),
        (b"schema = 2\n[switches]", "reads schema 1"),
        (b"schema = true\n[switches]", "reads schema 1"),
        (b"swithces = 1\n[switches]", "'swithces'"),
        (b"#" * (LARGEST + 1), "at most"),
        (b"[switches]\n" + b"".join(b"a%d = true\n" % n for n in range(10_001)), "10,001"),
    ],
)
def test_a_document_that_is_not_understood_is_refused_whole(text: bytes, told: str) -> None:
    with pytest.raises(Misuse, match=told):
        parse(text, form="toml")


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b'{"switches": []}', b"[" * 100_000])
def test_bad_json_is_refused(text: bytes) -> None:
    with pytest.raises(Misuse):
        parse(text, form="json")


# --- starting ----------------------------------------------------------------------------------------


def test_a_file_is_read_at_the_start(path: Path) -> None:
    switches = Switches.connect(f"file://{path}", interval=None)
    assert switches.enabled("recommendations")
    assert not switches.enabled("catalogue")
    assert switches.status().state == "ready"
    assert switches.status().version == 1
    as_json = path.with_suffix(".json")
    as_json.write_text(json.dumps({"switches": {"a": False}}))
    assert not Switches.connect(as_json, interval=None).enabled("a")


def test_a_missing_file_at_the_start_is_told_unless_there_are_defaults(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(Misuse, match=r"none\.toml' cannot be read: No such file.*give defaults"):
        connect(missing)
    switches = connect(missing, defaults={"recommendations": False})
    assert not switches.enabled("recommendations")
    assert switches.status().state == "stale"
    replace(missing, toml(recommendations=True))
    assert switches.refresh()
    assert switches.enabled("recommendations")
    assert switches.status().state == "ready"


def test_SW7_a_corrupt_file_at_the_start_is_skipped_and_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("[switches\n")
    with pytest.raises(Misuse, match="no TOML"):
        connect(path)
    with caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        switches = connect(path, defaults={"a": True})
    assert switches.enabled("a")
    assert switches.status().state == "error"
    assert "no TOML" in caplog.text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("switches.toml", "no backend URL"),
        ("ftp://host/switches.toml", "known: file://, http://"),
        ("file:///etc/shop/switches.yaml", ".toml or .json"),
        ("file://etc/switches.toml", "three slashes"),
    ],
)
def test_a_wrong_url_is_told(source: str, told: str) -> None:
    with pytest.raises(Misuse, match=told):
        Switches.connect(source, defaults={"a": True})


def test_wrong_options_are_told(path: Path) -> None:
    with pytest.raises(Misuse, match="interval"):
        Switches.connect(path, interval=0.0)
    with pytest.raises(Misuse, match="interval"):
        Switches.connect(path, interval=-1)
    with pytest.raises(Misuse, match="letters, digits"):
        connect(path, defaults={"a b": True})


def test_an_unknown_switch_is_refused_by_name_and_the_known_ones_are_told(path: Path) -> None:
    switches = connect(path)
    with pytest.raises(Misuse, match="'recomendations'; known: catalogue, recommendations"):
        switches.enabled("recomendations")
    with pytest.raises(Misuse, match="known: catalogue, recommendations"):
        switches.override("recomendations", False)


# --- changing ----------------------------------------------------------------------------------------


def test_a_change_is_seen_after_the_next_look(path: Path) -> None:
    switches = connect(path)
    replace(path, toml(recommendations=False, catalogue=True, new=False))
    assert switches.enabled("recommendations")
    assert switches.refresh()
    assert [switches.enabled(name) for name in ("recommendations", "catalogue", "new")] == [False, True, False]
    assert not switches.refresh()
    assert switches.status().version == 2


def test_a_change_that_keeps_size_and_time_of_the_file_is_seen(path: Path) -> None:
    replace(path, "[switches]\na = true # \n")
    switches = connect(path)
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"[switches]\na = false #\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert switches.refresh()
    assert not switches.enabled("a")


@pytest.mark.parametrize("spoilt", ["[switches\n", "[switches]\ncatalogue = 5\n", "", "\x00" * 100])
def test_a_bad_document_keeps_the_old_one_and_is_reported(
    path: Path, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    switches = connect(path)
    replace(path, spoilt)
    with measured() as seen, caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        for _ in range(3):
            assert not switches.refresh()
    assert not switches.enabled("catalogue")
    assert switches.status().state == "error"
    assert switches.status().version == 1
    assert len(caplog.records) == 1  # told once, not every second
    assert seen.count("config.applies", source="file", result="invalid") == 3
    replace(path, toml(catalogue=True))
    assert switches.refresh()
    assert switches.enabled("catalogue")
    assert switches.status().problem == ""


def test_a_file_that_vanishes_keeps_the_values_and_its_age_grows(path: Path) -> None:
    clock = ManualClock()
    switches = connect(path, clock=clock)
    clock.advance(5)
    switches.refresh()
    assert switches.status().age == 0
    path.unlink()
    clock.advance(7)
    assert not switches.refresh()
    assert switches.enabled("recommendations")
    assert (switches.status().state, switches.status().age) == ("stale", 7)


def test_a_file_that_is_being_written_is_not_taken_half(path: Path) -> None:
    """Two reads a moment apart must agree: the second half is written between them."""
    writes = [toml(recommendations=False, catalogue=True, third=False), None]

    def sleep(seconds: float) -> None:
        text = writes.pop(0)
        if text is not None:
            path.write_text(text)

    switches = connect(path)
    path.write_text("[switches]\nrecommendations = false\n")  # valid, and half
    switches.source = FileSource(path, sleep=sleep)
    assert switches.refresh()
    assert switches.enabled("catalogue")
    assert not switches.enabled("third")


def test_a_switch_that_a_document_leaves_out_goes_back_to_its_default(path: Path) -> None:
    switches = connect(path, defaults={"catalogue": True, "search": False})
    assert not switches.enabled("catalogue")
    replace(path, toml(other=False))
    switches.refresh()
    assert switches.enabled("catalogue")
    assert not switches.enabled("search")
    assert switches.enabled("recommendations")  # known from an earlier document: a reader must not fail
    replace(path, toml(recommendations=False))
    switches.refresh()
    assert not switches.enabled("recommendations")
    assert switches.enabled("other")


def test_an_override_wins_until_it_is_released(path: Path) -> None:
    switches = connect(path)
    switches.override("catalogue", True)
    replace(path, toml(catalogue=False, recommendations=False))
    switches.refresh()
    assert switches.enabled("catalogue")
    switches.override("catalogue", None)
    assert not switches.enabled("catalogue")


def test_SW9_a_snapshot_stays_as_it_was(path: Path) -> None:
    switches = connect(path)
    view = switches.snapshot()
    replace(path, toml(recommendations=False, catalogue=True))
    switches.refresh()
    assert view.enabled("recommendations")
    assert not view.enabled("catalogue")
    assert (view.version, switches.snapshot().version) == (1, 2)
    with pytest.raises(TypeError):
        view.states["a"] = view.states["catalogue"]  # type: ignore[index]  # that it cannot be done is the test


def test_SW9_readers_see_whole_documents_while_they_change() -> None:
    """Two switches that are always opposite, changed as fast as possible under readers."""
    source = MemorySource({"a": True, "b": False})
    switches = Switches(source, interval=None)
    stop, broken = threading.Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            view = switches.snapshot()
            if view.enabled("a") == view.enabled("b"):
                broken.append("mixture")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for turn in range(300):
        source.publish({"a": turn % 2 == 0, "b": turn % 2 == 1})
        switches.refresh()
    stop.set()
    for reader in readers:
        reader.join()
    sys.setswitchinterval(interval)
    assert broken == []


def test_SW9_a_read_takes_no_lock_and_under_0_3_us() -> None:
    switches = Switches.connect("memory://", defaults={"a": True}, interval=None)
    used = {step.argval for step in dis.get_instructions(Switches.enabled) if step.opname.startswith("LOAD_")}
    assert not {"_lock", "lock", "acquire", "source"} & used
    assert min(timeit.repeat(lambda: switches.enabled("a"), number=10_000, repeat=7)) / 10_000 < 0.3e-6


# --- behind the scenes -------------------------------------------------------------------------------


def test_SW11_what_a_child_inherited_is_stale_until_it_is_confirmed(path: Path) -> None:
    switches = connect(path)
    assert switches.status().state == "ready"
    switches.renew()  # what the hook of the fork calls
    assert switches.status().state == "stale"
    assert not switches.enabled("catalogue")
    switches.refresh()
    assert switches.status().state == "ready"


def test_SW6_age_version_and_connection_are_gauges(path: Path) -> None:
    clock = ManualClock()
    with measured() as seen:
        switches = connect(path, clock=clock)
        clock.advance(3)
        assert seen.value("config.age", source="file") == 3
        assert seen.value("config.version", source="file") == 1
        assert seen.value("config.connected", source="file") == 1
        path.unlink()
        switches.refresh()
        assert seen.value("config.connected", source="file") == 0


def test_errors_of_sources_are_of_one_root(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "none.toml", sleep=lambda seconds: None)
    with pytest.raises(Unavailable) as failure:
        source.poll()
    assert isinstance(failure.value, BackstayError)
    assert isinstance(failure.value.__cause__, FileNotFoundError)
