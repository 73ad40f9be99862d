"""What a contender makes of listings that a real server shows only at rare moments.

The client here is a stand-in with nodes in a dict: the node of a session that is over but not yet cleaned up, a listing
without our own node, an answer that never came. On a real server these are races.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kazoo.exceptions import ConnectionLoss, NoNodeError

from backstay.blocking import drive
from backstay.clock import monotonic
from backstay.errors import OutcomeUnknown
from backstay.locks.backends.zookeeper.contending import Exchange, Look, Place, Standing
from backstay.locks.backends.zookeeper.session import Session
from backstay.locks.backends.zookeeper.wire import BlockingWire
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource

OLD, NOW = 7, 8  # numbers of sessions
TOKEN = f"host-1-{'a' * 32}-1"
OTHER = f"host-2-{'b' * 32}-1"


class Known:
    """An answer that is there."""

    def __init__(self) -> None:
        self.value: Any = None
        self.exception: BaseException | None = None

    def wait(self, timeout: float | None = None) -> bool:
        return True


class Nodes:
    """Contenders of one resource: name to (owner, data)."""

    chroot, default_acl = "", None

    def __init__(self, **nodes: tuple[int, bytes]) -> None:
        self.nodes: dict[str, tuple[int, bytes]] = dict(nodes)
        self.handler = SimpleNamespace(async_result=Known)
        self.number = 10
        self.asked: list[str] = []
        self.lose_create = False
        self.before_create: Callable[[], None] | None = None

    def _answer(self, what: str, value: Callable[[], Any]) -> Known:
        self.asked.append(what)
        answer = Known()
        try:
            answer.value = value()
        except Exception as error:
            answer.exception = error
        return answer

    def _call(self, request: Any, answer: Known) -> None:
        self.asked.append("create")
        self.number += 1
        node = f"{request.path.rpartition('/')[2]}{self.number:010d}"
        self.nodes[node] = (NOW, b"")
        answer.value = (f"/x/{node}", self._stat(node))
        if self.lose_create:
            answer.value, answer.exception = None, ConnectionLoss()

    def _stat(self, node: str) -> Any:
        if node not in self.nodes:
            raise NoNodeError
        return SimpleNamespace(czxid=100 + int(node[-10:]), ephemeralOwner=self.nodes[node][0], version=0)

    def sync_async(self, path: str) -> Known:
        return self._answer("sync", lambda: path)

    def get_children_async(self, path: str) -> Known:
        return self._answer("list", lambda: list(self.nodes))

    def exists_async(self, path: str) -> Known:
        node = path.rpartition("/")[2]
        return self._answer("exists", lambda: self._stat(node) if node in self.nodes else None)

    def get_async(self, path: str, watch: Any = None) -> Known:
        node = path.rpartition("/")[2]
        return self._answer("get", lambda: (self._stat(node), (self.nodes[node][1], self._stat(node)))[1])

    def delete_async(self, path: str) -> Known:
        return self._answer("delete", lambda: self.nodes.pop(path.rpartition("/")[2]))


def look(
    nodes: Nodes, place: Place, claim: Claim = MUTEX, kind: str = "lock", waits: bool = True
) -> tuple[Standing, list[str]]:
    watched: list[str] = []
    session = cast("Session", SimpleNamespace(client=nodes))
    one = Look(
        Exchange(session, BlockingWire(), "zookeeper://stand-in"),
        Resource("x", kind), claim, TOKEN, place, monotonic() + 5.0, watched.extend if waits else None, print,
    )  # fmt: skip
    return drive(one.run()), watched


def test_two_flights_for_what_is_free() -> None:
    nodes = Nodes()
    standing, watched = look(nodes, Place("/x", NOW))
    assert standing == Standing(fence=111)
    assert (nodes.asked, watched) == (["create", "list"], [])


def test_Z1_a_node_of_our_token_from_an_earlier_session_is_not_ours() -> None:
    nodes = Nodes(**{f"{TOKEN}-lock-0000000005": (OLD, b"")})
    place = Place("/x", NOW, asked=True)  # the session changed while the create was not answered
    standing, watched = look(nodes, place)
    assert standing.fence == 0, "it vanishes with its session: whoever took it for their own leads falsely"
    assert place.node == f"{TOKEN}-lock-0000000011"
    assert watched == [f"/x/{TOKEN}-lock-0000000005"]


def test_Z1_a_node_of_our_token_from_this_session_is_ours_and_no_second_is_made() -> None:
    nodes = Nodes()
    nodes.lose_create = True
    place = Place("/x", NOW)
    with pytest.raises(OutcomeUnknown):
        look(nodes, place)
    assert place.asked
    standing, _ = look(nodes, place)
    assert standing == Standing(fence=111)
    assert len(nodes.nodes) == 1
    assert nodes.asked[2:] == ["sync", "list", "exists"], "behind a sync, or the listing could be from the past"


def test_Z5_a_waiter_that_is_not_in_the_listing_joins_anew_behind_the_others() -> None:
    nodes = Nodes(**{f"{OTHER}-lock-0000000005": (OLD, b"")})
    place = Place("/x", NOW)
    look(nodes, place)
    first = place.node
    del nodes.nodes[first]
    standing, watched = look(nodes, place)
    assert standing.fence == 0
    assert place.node != first and place.node in nodes.nodes
    assert watched == [f"/x/{OTHER}-lock-0000000005"]


def test_the_session_of_a_place_is_that_of_its_node() -> None:
    place = Place("/x", OLD)  # another session began between the question and the create
    look(Nodes(), place)
    assert place.session == NOW


def test_Z4_who_does_not_wait_leaves_at_once_and_watches_nothing() -> None:
    nodes = Nodes(**{f"{OTHER}-lock-0000000005": (OLD, b"")})
    standing, watched = look(nodes, Place("/x", NOW), waits=False)
    assert standing == Standing(0, 1, OTHER)
    assert list(nodes.nodes) == [f"{OTHER}-lock-0000000005"]
    assert watched == []


def test_RW3_a_writer_that_went_on_as_a_reader_is_read_from_its_data() -> None:
    writer = f"{OTHER}-__WRIT__0000000005"
    for data, claim, kind in ((b"", READ, "blocked"), (b"__READ__", READ, "free"), (b"__READ__", WRITE, "blocked")):
        for waits in (True, False):
            nodes = Nodes(**{writer: (OLD, data)})
            standing, _ = look(nodes, Place("/x", NOW), claim, "read-write lock", waits)
            assert bool(standing.fence) == (kind == "free")
