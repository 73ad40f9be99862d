"""The wire and the mailbox where servers replace each other, in virtual time: what is sent where, and until when."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from backstay.blocking import drive
from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks.backend import Busy, Note
from backstay.locks.backends.redis import RedisBackend
from backstay.locks.backends.redis.answers import Request, Wire, granted, replica_wait
from backstay.locks.backends.redis.hinted_mailbox import HintedMailbox
from backstay.locks.backends.redis.routed import RoutedWire
from backstay.locks.backends.redis.routed_mailbox import RoutedLetter, RoutedMailbox
from backstay.locks.backends.redis.scripts import RELEASE, TAKE, Script
from backstay.locks.claims import MUTEX, Resource, permits
from backstay.redis import ClusterRoute, Place, Redirected, Settings, target
from backstay.simulation import Host, World
from stateful.locks.beside import DirectWire
from stateful.locks.lua_redis import LuaRedis

T = TypeVar("T")

A, B, C = ("a", 1), ("b", 2), ("c", 3)
KEY = ("backstay:s:{x}:owner",)


class Route:
    """Names the places that a test sets, one after the other; the last one stays."""

    def __init__(self, *places: Place) -> None:
        self.order = list(places)
        self.places = frozenset(places[:1])
        self.doubts: list[Place] = []

    async def place(self, key: str, timeout: float) -> Place:
        return self.order[0]

    def doubt(self, place: Place) -> None:
        self.doubts.append(place)
        if len(self.order) > 1 and self.order[0] == place:
            del self.order[0]
            self.places = frozenset(self.order[:1])

    def forked(self) -> None: ...


class NodeWire:
    """A server that gives the answers that a test has set for it; errors are raised, a number of seconds is silence."""

    def __init__(self, host: Host, answers: list[Any]) -> None:
        self.host, self.answers = host, answers
        self.sent: list[tuple[str, tuple[str | int, ...]]] = []
        self.closed = self.recovered = False

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        self.sent.append((script.name, tuple(arguments)))
        await self.host.sleep(0.001)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await self.host.sleep(min(answer, timeout))
            raise OutcomeUnknown("silent")
        if isinstance(answer, Exception):
            raise answer
        return answer, False

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        answers: list[Any] = []
        for each in requests:
            try:
                answers.append((await self.call(each.script, each.keys, each.arguments, timeout))[0])
            except (Unavailable, NotAcquired) as error:
                answers.append(error)
        return answers

    async def servers(self, timeout: float) -> Sequence[Wire]:
        return (self,)

    async def close(self) -> None:
        self.closed = True

    def forked(self) -> None: ...

    def recover(self) -> None:
        self.recovered = True


class Setting:
    """A routed wire over nodes with set answers."""

    def __init__(self, host: Host, route: Any, answers: dict[Place, list[Any]], replicas: int = 0) -> None:
        self.host, self.route = host, route
        self.nodes = {place: NodeWire(host, some) for place, some in answers.items()}
        self.asked: list[Sequence[Any]] = []
        self.replies: list[Any] = []
        self.wire = RoutedWire(
            host, route, self.exchange, Settings(), lambda place: self.nodes[place], "redis+cluster://x", replicas
        )

    async def exchange(self, settings: Settings, commands: Sequence[Any], timeout: float) -> list[Any]:
        self.asked.append(((settings.host, settings.port), *commands))
        if isinstance(self.replies, Exception):
            raise self.replies
        return self.replies

    async def take(self, timeout: float, *arguments: str | int) -> tuple[Any, bool]:
        return await self.wire.call(TAKE, KEY, arguments or ("token",), timeout)


def in_world(work: Callable[[Host], Coroutine[Any, Any, T]]) -> T:
    world = World(1)
    host = world.host("here")
    task = world.start(host, work(host))
    world.run()
    return task.result()


NOT_NOW = Unavailable("it does not serve writes now")


def test_R9_a_server_that_refuses_is_doubted_and_the_next_one_is_asked() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A, B), {A: [NOT_NOW], B: [b"7"]})
        assert await here.take(2.0) == (b"7", False)
        assert here.route.doubts == [A]
        assert here.nodes[A].recovered
        assert here.nodes[A].closed, "nobody is led there any more"
        assert here.nodes[B].sent == [("take", ("token",))]

    in_world(work)


def test_R9_what_was_sent_once_counts_as_sent() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A, B), {A: [0.5], B: [b"7"]})
        assert await here.take(2.0) == (b"7", True), "an earlier copy may have run"
        here = Setting(host, Route(A, B), {A: [0.5], B: [NOT_NOW]})
        start = host.now()
        with pytest.raises(OutcomeUnknown, match="does not serve writes"):
            await here.take(2.0)
        assert 1.9 < host.now() - start < 2.1, "tried until the caller's time was over, and no longer"

    in_world(work)


def test_R9_what_was_never_done_is_unavailable_in_the_end() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A), {A: [NOT_NOW]})
        start = host.now()
        with pytest.raises(Unavailable):
            await here.take(1.0)
        assert 0.9 < host.now() - start < 1.1
        assert 5 <= len(here.nodes[A].sent) <= 20, "with pauses"

    in_world(work)


@pytest.mark.parametrize("final", [Misuse("no"), NotAcquired("0 of 1 replicas")])
def test_other_refusals_are_final(final: Exception) -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A, B), {A: [final], B: [b"7"]})
        with pytest.raises(type(final)):
            await here.take(2.0)
        assert here.route.doubts == []

    in_world(work)


def cluster(host: Host) -> ClusterRoute:
    async def told(settings: Settings, commands: Sequence[Any], timeout: float) -> list[Any]:
        return [[[0, 16383, [b"a", 1, b"id"]]]]

    return ClusterRoute(target("redis+cluster://a:1"), told, host)


def test_R9_a_slot_that_has_moved_is_followed_without_a_pause_and_remembered() -> None:
    async def work(host: Host) -> None:
        moved = Redirected("moved", slot=16287, host="b", port=2, once=False)
        here = Setting(host, cluster(host), {A: [moved], B: [b"7"]})
        start = host.now()
        assert await here.take(2.0) == (b"7", False)
        assert host.now() - start < 0.01
        assert len(here.nodes[B].sent) == 1

    in_world(work)


def test_R9_redirections_in_a_circle_end_with_the_callers_time() -> None:
    async def work(host: Host) -> None:
        onward = [Redirected("moved", slot=16287, host=host_, port=port, once=False) for host_, port in (B, A)]
        here = Setting(host, cluster(host), {A: [onward[0]], B: [onward[1]]})
        with pytest.raises(Unavailable):
            await here.take(0.5)
        assert len(here.nodes[A].sent) + len(here.nodes[B].sent) < 60

    in_world(work)


def test_R9_a_key_on_the_move_is_asked_for_once_at_the_other_node() -> None:
    async def work(host: Host) -> None:
        ask = Redirected("ask", slot=16287, host="b", port=2, once=True)
        here = Setting(host, cluster(host), {A: [ask]})
        here.replies = [b"OK", b"7"]
        assert await here.take(2.0) == (b"7", False)
        assert here.asked == [(B, ("ASKING",), ("EVAL", TAKE.text, 1, *KEY, "token"))]
        here.replies = Unavailable("cut")  # type: ignore[assignment]
        with pytest.raises(OutcomeUnknown):
            await here.take(0.3)
        careful = Setting(host, cluster(host), {A: [ask]}, replicas=2)
        careful.replies = [b"OK", b"7", 1]
        with pytest.raises(NotAcquired, match="1 of 2 replicas"):
            await careful.take(2.0)
        assert careful.asked[0][3][:2] == ("WAIT", 2)

    in_world(work)


def test_renewals_go_in_one_batch_to_each_server_and_what_was_not_done_is_tried_again() -> None:
    async def work(host: Host) -> None:
        class Split(Route):
            async def place(self, key: str, timeout: float) -> Place:
                return A if "even" in key else B

        here = Setting(host, Split(A), {A: [1], B: [NOT_NOW, 0, 1]})
        requests = [Request(RELEASE, (f"{kind}{number}",), ()) for number in range(2) for kind in ("even", "odd")]
        assert await here.wire.call_all(requests, 2.0) == [1, 1, 1, 0]
        assert len(here.nodes[A].sent) == 2, "what was done there is not sent again"
        assert len(here.nodes[B].sent) == 3
        silent = Setting(host, Split(A), {A: [1], B: [9.0]})
        answers = await silent.wire.call_all(requests, 1.0)
        assert answers[0] == answers[2] == 1
        assert all(isinstance(answers[place], OutcomeUnknown) for place in (1, 3))

    in_world(work)


def test_R13_whoever_lists_asks_all_servers() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, cluster(host), {A: [b"7"]})
        assert list(await here.wire.servers(1.0)) == [here.nodes[A]]

    in_world(work)


def test_closed_it_refuses() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A), {A: [b"7"]})
        await here.wire.close()
        with pytest.raises(Misuse, match="were closed"):
            await here.take(1.0)

    in_world(work)


# -- mailboxes


class Place_:
    """A place in a mailbox at one server."""

    address = "unused"

    def __init__(self, note: Note | None) -> None:
        self.note, self.closed = note, False

    async def wait(self, timeout: float) -> Note | None:
        return self.note

    def close(self) -> None:
        self.closed = True


class Box:
    """A mailbox at one server."""

    def __init__(self, name: str) -> None:
        self.name, self.address, self.opened, self.cut = name, "", 0, False
        self.made: list[Place_] = []

    def letter(self, token: str) -> Place_:
        self.made.append(Place_(Note(1, 1.0)))
        return self.made[-1]

    async def open(self, timeout: float) -> None:
        self.opened += 1
        self.address = f"channel-{self.name}-{self.opened}"

    async def close(self) -> None:
        self.cut_off()

    def cut_off(self) -> None:
        self.cut, self.address = True, ""

    def forked(self) -> None: ...


async def waiting(here: Setting) -> tuple[RoutedMailbox, RoutedLetter, dict[Place, Box]]:
    boxes: dict[Place, Box] = {}
    mailbox = RoutedMailbox(here.wire, lambda place: boxes.setdefault(place, Box(place[0])))
    assert mailbox.letter("t") is None
    await mailbox.open(1.0)
    letter = mailbox.letter("t")
    assert letter is not None
    return mailbox, letter, boxes


def test_W1_a_waiter_subscribes_where_its_request_goes_before_it_goes_there() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A, B), {A: [b"1", NOT_NOW], B: [b"2"]})
        _, letter, boxes = await waiting(here)
        await here.take(1.0, "token", 10, letter.address, 5000)
        assert here.nodes[A].sent[0][1] == ("token", 10, "channel-a-1", 5000)
        await here.take(1.0, "token", 10, letter.address, 5000)
        assert here.nodes[B].sent[-1][1] == ("token", 10, "channel-b-1", 5000)
        assert boxes[A].cut, "whoever waits at the server that was left looks again at once"
        assert boxes[A].made[0].closed
        boxes[B].cut_off()
        await here.take(1.0, "token", 10, letter.address, 5000)
        assert here.nodes[B].sent[-1][1][2] == "channel-b-2", "a new subscription after a cut"
        letter.close()
        assert boxes[B].made[-1].closed

    in_world(work)


def test_a_note_is_a_hint_and_the_store_is_asked() -> None:
    async def work(host: Host) -> None:
        here = Setting(host, Route(A), {A: [b"1"]})
        _, letter, _ = await waiting(here)
        await here.take(1.0, letter.address)
        assert await letter.wait(1.0) is None
        hinted = HintedMailbox(Box("a")).letter("t")
        assert hinted is not None
        assert await hinted.wait(1.0) is None
        hinted.close()

    in_world(work)


def test_R10_replicas_get_what_is_left_of_the_callers_time() -> None:
    assert replica_wait(2.0) == 1800
    assert replica_wait(0.3) == 150
    assert replica_wait(0.0001) == 1, "0 would wait for ever"
    assert granted(b"17")
    assert not granted(b"withdrawn")
    assert not granted([1, b"0", 0, b"owner"])


@pytest.mark.parametrize("lock", [Resource("x", "lock"), Resource("x", "semaphore")], ids=lambda lock: lock.kind)
def test_W3_nobody_is_told_of_a_grant_who_is_not_counted(lock: Resource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribers at replicas and other nodes get what is published, too."""
    told: list[str] = []
    server = LuaRedis(lambda: 1000.0, lambda channel, message: told.append(message) or 1)
    box: Any = None
    backend = RedisBackend(DirectWire(server), box, "s", "lua", 1.0)
    claim = MUTEX if lock.kind == "lock" else permits(1, 1)
    holder, here = "h-1-a-1", "w-1-b-1"
    fence = drive(backend.take(lock, holder, claim, 60.0, "", 1.0))
    assert isinstance(fence, int)
    assert isinstance(drive(backend.take(lock, here, claim, 60.0, "channel", 1.0)), Busy)
    count = LuaRedis._pubsub
    monkeypatch.setattr(LuaRedis, "_pubsub", lambda self, what, channel: _zero(count(self, what, channel)))
    drive(backend.release(lock, holder, fence, 1.0))
    assert told == []
    assert isinstance(drive(backend.take(lock, "n-1-c-1", claim, 60.0, "", 1.0)), int), "nobody else has it"


def _zero(counted: Any) -> Any:
    counted[2] = 0
    return counted
