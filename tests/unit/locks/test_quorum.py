"""Votes of masters and what they mean, who may be a master, and what a restarted one must wait for."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.locks import Locks
from backstay.locks.backend import Busy, Freed, Kept
from backstay.locks.backends.quorum import QuorumSource, quorum_of_each, quorum_of_url, scripts
from backstay.locks.backends.quorum.restarts import Restarts, facts_of
from backstay.locks.backends.quorum.votes import busy, freed, granted, kept, majority, survey, yes_or_hopeless
from backstay.locks.backends.redis.scripts import Script
from backstay.url import parse

URL = "redis+quorum://a:1,b:2,c:3/0"
LOST = OutcomeUnknown("no answer")


@pytest.mark.parametrize(("masters", "quorum"), [(3, 2), (4, 3), (5, 3), (7, 4), (15, 8)])
def test_K1_any_two_majorities_share_a_master(masters: int, quorum: int) -> None:
    assert majority(masters) == quorum
    assert 2 * quorum > masters


def test_K1_waiting_ends_at_the_quorum_or_where_it_cannot_be_had() -> None:
    enough = yes_or_hopeless(granted, 2)
    yes, no = (b"17", False), ([100, b"1", b"other|1"], False)
    assert not enough([yes, None, None])
    assert enough([yes, None, yes])
    assert not enough([no, None, None])
    assert enough([no, None, no])
    assert enough([LOST, None, no])
    assert not enough([LOST, yes, None])
    assert not enough([(b"withdrawn", False), yes, None])


def test_K3_only_a_majority_keeps_a_lease() -> None:
    assert kept([1, 1, LOST], 2) is Kept.RENEWED
    assert kept([1, 0, 0], 2) is Kept.NOT_OWNER
    assert kept([1, 0, LOST], 2) is Kept.FAILED
    assert kept([1, LOST, None], 2) is Kept.FAILED
    assert kept([1, -1, LOST], 2) is Kept.NO_EXPIRY
    assert kept([1, 1, 0, 0, LOST], 3) is Kept.FAILED
    assert kept([1, 1, 0, 0, 0], 3) is Kept.NOT_OWNER


def test_R4_a_release_is_done_not_done_or_unknown() -> None:
    assert freed([(1, False), (1, False), None], 2) is Freed.FREED
    assert freed([(1, False), (0, True), LOST], 2) is Freed.PERHAPS_EARLIER
    assert freed([(1, False), (0, False), (0, False)], 2) is Freed.NOT_OWNER
    assert freed([(1, False), (0, False), LOST], 2) is None
    assert freed([LOST, LOST, None], 2) is None


def test_K1_who_holds_a_majority_is_named_and_a_split_vote_has_no_end() -> None:
    one, other = [900, b"5000000", b"web-1-x-1|3"], [700, b"6000000", b"web-2-x-9|1"]
    assert busy([(one, False), (one, False), None]) == Busy(0.9, 5.0, 1, "web-1-x-1")
    assert busy([(one, False), (other, False), (b"7", False)]).left is None
    assert busy([(b"7", False), LOST, None]) == Busy(None, 0.0, 1, "")


def test_a_survey_names_only_whom_a_majority_names() -> None:
    mine, ghost = [b"2000000", b"t|4", 800, b"1500000"], [b"2000000", b"u|1", 300, b"9"]
    (holder,) = survey([mine, mine, ghost], 2).holders
    assert (holder.token, holder.fence, holder.left, holder.age) == ("t", 1500000, 0.8, 0.5)
    assert survey([mine, ghost, [b"2000000", b"", -2, b"0"]], 2).holders == []


# -- who may be a master


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+quorum://a:1,b:2/0", "3 to 15 masters, got 2"),
        ("redis+quorum://a:1,b:2,a:1/0", "named twice"),
        (URL + "?fence=perhaps", "fence is 'yes' or 'no'"),
        (URL + "?max_ttl=long", "max_ttl is a number"),
        (URL + "?max_ttl=0", "above 0"),
        (URL + "?max_ttl=nan", "above 0"),
        (URL + "?min_replicas=1", "need no replicas"),
        (URL + "?colour=red", "no option 'colour'"),
    ],
)
def test_a_quorum_with_a_mistake_is_refused_when_it_is_named(url: str, reason: str) -> None:
    with pytest.raises(Misuse, match=re.escape(reason)):
        Locks.connect(url)


def test_masters_are_single_servers() -> None:
    with pytest.raises(Misuse, match="know nothing of each other"):
        quorum_of_each(["redis+cluster://a:1", "redis://b:1", "redis://c:1"], None)
    mixed: list[Any] = ["redis://a:1", redis.Redis(host="b", port=2), "redis://c:3"]
    assert [each.settings.host for each in quorum_of_each(mixed, 1.0).masters] == ["a", "b", "c"]


def test_options_and_credentials_go_to_every_master_and_no_secret_to_a_label() -> None:
    found = quorum_of_url(parse("rediss+quorum://joe:hush@a:1,b,[::1]:3/2?max_ttl=30&socket_timeout=4&fence=no"), None)
    about = [each.settings for each in found.masters]
    assert [(each.kind, each.host, each.port, each.db) for each in about] == [
        ("tls", "a", 1, 2), ("tls", "b", 6379, 2), ("tls", "::1", 3, 2)]  # fmt: skip
    assert {each.settings.credentials() for each in found.masters} == {("joe", "hush")}
    assert (found.max_ttl, found.fence, found.patience, found.within) == (30.0, False, 4.0, 1.0)
    assert "hush" not in found.label + repr(found)


def test_K5_without_fences_it_is_a_lease_and_fenced_is_refused() -> None:
    assert QuorumSource(quorum_of_url(parse(URL), None), "t").guarantee == "fenced"
    assert QuorumSource(quorum_of_url(parse(URL + "?fence=no"), None), "t").guarantee == "lease"
    with pytest.raises(Misuse, match="lease"):
        Locks.connect(URL + "?fence=no", require="fenced")


def test_K4_a_ttl_longer_than_masters_stay_out_is_refused_before_anything_is_sent() -> None:
    with Locks.connect(URL + "?max_ttl=5") as locks, pytest.raises(Misuse, match="longer than max_ttl"):
        locks.mutex("x", ttl=6.0).acquire()


# -- restarts


def _replies(uptime: str = "5", aof: str = "0", fsync: str = "everysec") -> list[Any]:
    return [
        f"# Server\r\nuptime_in_seconds:{uptime}\r\n".encode(),
        f"# Persistence\r\naof_enabled:{aof}\r\n".encode(),
        [b"appendfsync", fsync.encode()],
    ]


def _asked(max_ttl: float, replies: list[Any]) -> None:
    known = Restarts(max_ttl)
    plain: list[Any] = [[b"maxmemory", b"0", b"maxmemory-policy", b"noeviction"], b""]
    assert len(known.questions("r")) == 5
    known.heed("r", plain + replies)
    assert len(known.questions("r")) == 3, "what a restart changes is asked on each connection"


@pytest.mark.parametrize(
    "replies", [_replies("61"), _replies("3600"), _replies("0", "1", "always")], ids=["just", "long", "synced"]
)
def test_K4_who_lost_nothing_that_is_still_held_votes(replies: list[Any]) -> None:
    _asked(60.0, replies)


@pytest.mark.parametrize(
    "replies",
    [_replies("60"), _replies("0"), _replies("5", "1", "everysec"), _replies("5", "0", "always"), _replies("?"),
     [PermissionError("NOPERM"), PermissionError("NOPERM"), PermissionError("NOPERM")]],
)  # fmt: skip
def test_K4_who_may_have_forgotten_does_not(replies: list[Any]) -> None:
    with pytest.raises(Unavailable, match="may have lost locks"):
        _asked(60.0, replies)


def test_info_is_read_line_by_line() -> None:
    assert facts_of(b"# Server\r\na:1\r\nb:x:y\r\n") == {"a": "1", "b": "x:y"}
    assert facts_of(ValueError("refused")) == {}


# -- scripts

KEYS = {"TAKE": 3, "CONFIRM": 2, "RENEW": 1, "GIVE_BACK": 2, "LOOK": 2}


@pytest.mark.parametrize("name", KEYS)
def test_R8_a_script_uses_declared_keys_only(name: str) -> None:
    text = getattr(scripts, name).text
    assert {int(number) for number in re.findall(r"KEYS\[(\d)\]", text)} <= set(range(1, KEYS[name] + 1))
    assert "--@" not in text
    assert {key for key, value in vars(scripts).items() if isinstance(value, Script)} == set(KEYS)
