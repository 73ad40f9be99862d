"""The kept copy: whole after every failure, and the order of the start: disk, source, defaults (SW-7)."""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.envelope import Envelope
from backstay.resilience.delivery.last_known_good import LastKnownGood
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.testing import ManualClock, measured
from unit.resilience.delivery.scripted import Keeping, Scripted, sealed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "shop.json"


def begun(source: Scripted, path: Path) -> tuple[Plane, Keeping]:
    keeping = Keeping()
    today = datetime(2026, 11, 24, 12, tzinfo=UTC)
    plane = Plane(source, keep=path, scope="shop/production", clock=ManualClock(), wall=today.timestamp)
    plane.attach(keeping).start(watched=False)
    return plane, keeping


def test_SW7_what_was_applied_is_kept_and_only_that(path: Path) -> None:
    plane, _ = begun(Scripted(sealed(3)), path)
    assert Envelope.parse(path.read_bytes()) == sealed(3)
    assert isinstance(plane.source, Scripted)
    plane.source.present = sealed(4, spoilt=True)
    plane.refresh()
    assert Envelope.parse(path.read_bytes()) == sealed(3)
    plane.source.present = sealed(5)
    plane.refresh()
    assert Envelope.parse(path.read_bytes()) == sealed(5)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o077 == 0


def test_SW7_a_start_without_the_source_is_with_the_kept_document(path: Path) -> None:
    begun(Scripted(sealed(3)), path)
    source = Scripted(sealed(4))
    source.failure = Unavailable("down")
    with measured() as seen:
        plane, keeping = begun(source, path)
    assert keeping.now == {"number": 3}
    assert (plane.status().version, plane.status().state) == (3, "stale")
    assert seen.count("config.applies", source="disk", result="applied") == 1
    source.failure = None
    assert plane.refresh()
    assert (keeping.now, plane.status().state) == ({"number": 4}, "ready")


def test_SW7_the_source_wins_over_the_disk_at_the_start(path: Path) -> None:
    begun(Scripted(sealed(3)), path)
    plane, keeping = begun(Scripted(sealed(4)), path)
    assert [dict(section) for section in keeping.seen] == [{"number": 3}, {"number": 4}]
    assert plane.status().state == "ready"


def test_SW7_an_older_document_of_the_source_does_not_replace_the_kept_one(path: Path) -> None:
    begun(Scripted(sealed(3)), path)
    plane, keeping = begun(Scripted(sealed(2)), path)
    assert (keeping.now, plane.status().state) == ({"number": 3}, "stale")
    assert Envelope.parse(path.read_bytes()) == sealed(3)


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"{",
        b"\x00" * 300,
        sealed(9).to_bytes()[:-20],
        sealed(9).to_bytes().replace(b'"number":9', b'"number":8'),
        sealed(9, scope="other/one").to_bytes(),
        sealed(9, spoilt=True).to_bytes(),
        Envelope.seal(
            scope="shop/production", epoch=1, version=9, items={}, not_after="2026-11-24T11:00:00Z"
        ).to_bytes(),
    ],
    ids=["empty", "cut", "zeros", "truncated", "changed", "foreign", "refused", "ended"],
)
def test_SW7_a_corrupt_copy_is_skipped_and_reported(
    path: Path, spoilt: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(spoilt)
    with measured() as seen, caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        plane, keeping = begun(Scripted(sealed(3)), path)
    assert (keeping.now, plane.status().state) == ({"number": 3}, "ready")
    assert len(keeping.seen) == 1
    assert "began without the kept document" in caplog.text
    assert seen.count("config.applies", source="disk", result="invalid") == 1


def test_SW7_an_interrupted_write_leaves_the_old_copy_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = LastKnownGood(path)
    kept.save(sealed(1))

    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Unavailable, match="cannot be kept.*Input/output error"):
        kept.save(sealed(2))
    monkeypatch.undo()
    assert kept.load() == sealed(1)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_SW7_several_processes_that_share_a_copy_do_not_put_it_back(path: Path) -> None:
    kept = LastKnownGood(path)
    assert kept.save(sealed(5))
    assert not kept.save(sealed(4))
    assert not kept.save(sealed(5))
    assert kept.save(sealed(1, epoch=2))
    assert kept.load() == sealed(1, epoch=2)


def test_SW7_a_disk_that_keeps_nothing_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    with measured() as seen, caplog.at_level(logging.WARNING, logger="backstay.resilience"):
        plane, keeping = begun(Scripted(sealed(3)), tmp_path / "file" / "kept.json")
    assert (keeping.now, plane.status().state) == ({"number": 3}, "ready")
    assert "the next start would be with an older document" in caplog.text
    assert seen.count("config.applies", source="disk", result="unavailable") >= 1


def test_SW7_a_copy_that_is_not_there_is_no_fault(path: Path) -> None:
    assert LastKnownGood(path).load() is None
    with pytest.raises(Misuse, match=r"shop\.json': no envelope"):
        path.parent.mkdir()
        path.write_bytes(b"{")
        LastKnownGood(path).load()


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


def test_SW7_a_start_does_not_wait_longer_than_init_timeout() -> None:
    source, let_go = Scripted(sealed(3)), threading.Event()
    source.before = lambda: assert_set(let_go)
    plane = Plane(source, pace=Pace(init_timeout=0.05))
    keeping = Keeping()
    began = time.monotonic()
    status = plane.attach(keeping).start()
    assert time.monotonic() - began < 2
    assert status.state == "stale"
    assert "no answer within 0.05 s" in status.problem
    let_go.set()
    assert plane.refresh() or keeping.now == {"number": 3}  # the first look goes on and ends
    assert plane.status().state == "ready"
    plane.close()
