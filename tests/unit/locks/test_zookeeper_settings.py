"""What is read from a URL or a client, where things are, and who is woken: no server."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionLoss,
    NoAuthError,
    NotReadOnlyCallError,
    QuotaExceededError,
    SessionExpiredError,
)

from backstay.blocking import BlockingRuntime, drive
from backstay.errors import MissingExtra, Misuse, OutcomeUnknown, Unavailable
from backstay.locks import Locks
from backstay.locks.backends.zookeeper.answers import failure
from backstay.locks.backends.zookeeper.client import Event
from backstay.locks.backends.zookeeper.letters import Letters
from backstay.locks.backends.zookeeper.places import Places
from backstay.locks.backends.zookeeper.settings import of_client, of_url
from backstay.locks.claims import KINDS, Resource
from backstay.url import parse


def test_a_url_names_servers_chroot_session_and_credentials() -> None:
    settings = of_url(parse("zookeeper://shop:s3cr@t@zk1,zk2:2182,[::1]:2183/apps//shop/?session=6.5"), 1.5)
    assert settings.hosts == "zk1:2181,zk2:2182,[::1]:2183"
    assert (settings.chroot, settings.session, settings.patience) == ("/apps/shop", 6.5, 1.5)
    assert settings.auth == "shop:s3cr@t"
    assert settings.label == "zookeeper://zk1:2181,zk2:2182,[::1]:2183/apps/shop"
    assert "s3cr" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("zookeeper:///shop", "name the servers"),
        ("zookeeper://zk1?session=0", "session must be"),
        ("zookeeper://zk1?session=soon", "session must be"),
        ("zookeeper://zk1?sessions=3", "unknown option 'sessions'"),
        ("zookeeper://zk1/a/../b", "neither"),
        ("zookeeper://shop@zk1", "needs a user and a password"),
        ("zookeeper://zk1:0/a", "no port"),
    ],
)
def test_a_url_with_a_mistake_is_refused_before_anything_is_sent(url: str, says: str) -> None:
    with pytest.raises(Misuse, match=says):
        Locks.connect(url)


def test_a_missing_package_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kazoo", None)
    with pytest.raises(MissingExtra, match=r"pip install 'backstay\[zookeeper\]'"):
        Locks.connect("zookeeper://zk1")


def test_a_client_gives_its_servers_and_must_have_threads() -> None:
    client = KazooClient("zk1:2181,zk2:2182/apps", timeout=7.0)
    settings = of_client(client, None)
    assert (settings.hosts, settings.session, settings.client) == ("zk1:2181,zk2:2182", 7.0, client)
    assert settings.label == "zookeeper://zk1:2181,zk2:2182/apps"
    stranger = SimpleNamespace(client_state="CLOSED", chroot="", handler=SimpleNamespace(), hosts=[])
    with pytest.raises(Misuse, match="SequentialThreadingHandler"):
        Locks.connect(stranger)


@pytest.mark.parametrize("name", ["order:42", "a/b", ".", "..", "ä ö", "100%", "a.b", "\x00\n", "x" * 512])
def test_a_name_is_one_component_of_a_path_and_comes_back(name: str) -> None:
    places = Places("/apps", "shop")
    path = places.resource(Resource(name))
    head, _, node = path.rpartition("/")
    assert head == "/apps/backstay/shop/locks/lock"
    assert node not in ("", ".", "..") and node.isascii() and node.isprintable()
    assert places.name(node) == name


def test_kinds_never_meet_and_documents_lie_elsewhere() -> None:
    places = Places("", "shop")
    paths = {places.resource(Resource("x", kind)) for kind in KINDS}
    paths |= {places.document(Resource("x", kind)) for kind in KINDS}
    assert len(paths) == 2 * len(KINDS)


@pytest.mark.parametrize(
    ("error", "wrote", "kind"),
    [
        (ConnectionLoss(), True, OutcomeUnknown),
        (ConnectionLoss(), False, Unavailable),
        (SessionExpiredError(), True, Unavailable),  # what lives with the session is gone whatever became of it
        (NotReadOnlyCallError(), True, Unavailable),
        (NoAuthError(), True, Misuse),
        (AuthFailedError(), False, Misuse),
        (QuotaExceededError(), True, Misuse),
        (OSError("of kazoo"), True, OutcomeUnknown),
    ],
)
def test_C2_errors_of_the_driver_become_one_of_three_answers(
    error: Exception, wrote: bool, kind: type[Exception]
) -> None:
    made = failure("zookeeper://zk1", error, wrote)
    assert type(made) is kind
    assert made.__cause__ is error


def deleted(path: str) -> Event:
    return Event("DELETED", "CONNECTED", path)


def test_S6_who_gives_up_leaves_nothing_and_an_event_for_nobody_is_ignored() -> None:
    letters = Letters(BlockingRuntime())
    one, two = letters.letter("one"), letters.letter("two")
    letters.watch("one", ["/a", "/b"])
    letters.watch("two", ["/b"])
    assert (len(letters), letters.watched) == (2, 2)
    one.close()
    assert (len(letters), letters.watched) == (1, 1)
    letters.happened(deleted("/a"))
    letters.happened(deleted("/b"))
    assert letters.watched == 0
    assert drive(two.wait(0.0)) is None
    two.close()
    assert len(letters) == 0


def test_W3_a_lost_connection_lets_everybody_look_again_and_an_event_only_those_who_watch() -> None:
    letters = Letters(BlockingRuntime())
    one, two = letters.letter("one"), letters.letter("two")
    for token in ("one", "two"):
        letters.watch(token, [f"/{token}"])
    letters.happened(deleted("/two"))
    assert (one._signal.is_set(), two._signal.is_set()) == (False, True)
    drive(two.wait(0.0))
    letters.happened(Event("NONE", "CONNECTING", None))
    assert (one._signal.is_set(), two._signal.is_set()) == (True, True)
    assert letters.watched == 0, "the watches went with the connection"
