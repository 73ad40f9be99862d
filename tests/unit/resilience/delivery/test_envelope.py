"""Envelopes: one text for one content, and nothing half understood (SW-1)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse
from backstay.resilience.delivery.envelope import LARGEST, Cursor, Envelope, moment
from unit.resilience.delivery.scripted import sealed

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(
    st.sampled_from(["switches", "levels", "pipelines", "later"]),
    st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
    max_size=3,
)


def spoilt(**changes: Any) -> bytes:
    return json.dumps({**json.loads(sealed(3).to_bytes()), **changes}).encode()


def resealed(**changes: Any) -> bytes:
    """Return the bytes with another content and the checksum that belongs to it."""
    entries = {**json.loads(sealed(3).to_bytes()), **changes}
    del entries["checksum"]
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    entries["checksum"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(entries).encode()


@given(SECTIONS, st.integers(1, 2**53 - 1), st.integers(0, 2**53 - 1))
def test_SW1_what_was_sealed_is_read_back_and_has_the_same_bytes(items: Any, epoch: int, version: int) -> None:
    made = Envelope.seal(
        scope="shop/production", epoch=epoch, version=version, items=items, not_after="2030-01-01T00:00:00Z"
    )
    again = Envelope.parse(made.to_bytes())
    assert again == made
    assert again.to_bytes() == made.to_bytes()
    assert (again.etag, again.cursor) == (made.etag, Cursor(epoch, version))


def test_SW1_the_checksum_is_that_of_the_canonical_text() -> None:
    made = sealed(7, name="Grüße")
    entries = json.loads(made.to_bytes())
    checksum = entries.pop("checksum")
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert checksum == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_SW1_a_higher_epoch_is_above_every_version_of_a_lower_one() -> None:
    assert sealed(1, epoch=2).compare(sealed(900)) == "newer"
    assert sealed(900).compare(sealed(1, epoch=2)) == "older"
    assert sealed(4).compare(sealed(3)) == "newer"
    assert sealed(3).compare(None) == "newer"
    assert sealed(3).compare(sealed(3)) == "same"
    assert sealed(3, a=True).compare(sealed(3, a=False)) == "forked"


@given(st.integers(0, len(sealed(3).to_bytes()) - 1))
def test_SW12_an_envelope_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(Misuse, match="no envelope|truncated"):
        Envelope.parse(sealed(3).to_bytes()[:length])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "no envelope"),
        (b"[1]", "JSON object"),
        (b"[" * 100_000, "no envelope"),
        (b'{"schema": 1, "schema": 1}', "stands twice"),
        (spoilt(schema=2), "reads schema 1"),
        (spoilt(schema=True), "reads schema 1"),
        (spoilt(more=1), "unknown: more"),
        (b'{"schema": 1}', "missing: checksum"),
        (spoilt(version=4), "checksum"),
        (spoilt(items={"switches": {"number": 4}}), "checksum"),
        (spoilt(checksum="sha256:0"), "published again"),
        (resealed(version=-1), "version must be"),
        (resealed(version=True), "version must be"),
        (resealed(version=2**53), "version must be"),
        (resealed(epoch=0), "epoch must be"),
        (resealed(scope=""), "a scope is like"),
        (resealed(scope="../etc"), "a scope is like"),
        (resealed(scope=5), "a scope is like"),
        (resealed(issued_at="yesterday"), "issued_at must be like"),
        (resealed(issued_at="2026-11-24T02:00:00"), "zone"),
        (resealed(not_after="2026-13-24T02:00:00Z"), "not_after must be like"),
        (resealed(items=[]), "table of sections"),
        (resealed(items={"Switches": {}}), "a section is named like"),
        (resealed(items={"switches": []}), "must be a table"),
        (spoilt().replace(b'"number": 3', b'"number": NaN'), "NaN"),
        (b" " * (LARGEST + 1), "at most"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_whole(data: bytes, told: str) -> None:
    with pytest.raises(Misuse, match=told):
        Envelope.parse(data)


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, "\ud800"])
def test_only_what_json_can_hold_is_sealed(value: object) -> None:
    with pytest.raises(Misuse, match="JSON cannot"):
        sealed(1, a=value)


def test_a_document_that_is_too_large_is_not_sealed() -> None:
    with pytest.raises(Misuse, match="split scopes"):
        sealed(1, a="x" * LARGEST)


def test_what_is_sealed_is_a_copy() -> None:
    given = {"switches": {"a": {"enabled": True}}}
    made = Envelope.seal(scope="s", epoch=1, version=1, items=given)
    given["switches"]["a"]["enabled"] = False
    assert made.items["switches"]["a"] == {"enabled": True}
    with pytest.raises(TypeError):
        made.items["switches"]["b"] = 1  # type: ignore[index]  # that it cannot be done is the test


def test_moments_need_a_zone() -> None:
    assert moment("2026-11-24T23:00:00+01:00") == moment("2026-11-24T22:00:00Z")
    for wrong in ("2026-11-24", "22:00", "", None, 5):
        with pytest.raises(Misuse, match="zone included"):
            moment(wrong)
