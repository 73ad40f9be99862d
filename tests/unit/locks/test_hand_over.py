"""The text of a hand-over: what it says, what is refused, and what the old side can do no more (O4)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import LockLost, Locks, Permits, ReadWriteLease
from backstay.locks.backend import Kept
from backstay.locks.leases.hand_over import LIMIT


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def here(url: str) -> Iterator[Locks]:
    with Locks.connect(url) as locks:
        yield locks


@pytest.fixture
def there(url: str) -> Iterator[Locks]:
    with Locks.connect(url) as locks:
        yield locks


def test_O4_the_text_is_json_with_a_version_and_says_what_is_held(here: Locks) -> None:
    with here.mutex("order:42", ttl=30.0) as lease:
        found = json.loads(lease.detach())
    assert found == {
        "v": 1,
        "kind": "lock",
        "name": "order:42",
        "token": lease.token,
        "fence": lease.fence,
        "ttl": 30.0,
        "units": [["", 1, 1]],
        "size": 0,
        "hold": None,
    }


def test_O4_each_recipe_comes_back_as_what_it_was(here: Locks, there: Locks) -> None:
    permits = here.semaphore("gpu", permits=4).acquire(3)
    with there.attach(permits.detach()) as attached:
        assert isinstance(attached, Permits)
        assert attached.permits == 3
        attached.give_back(2)
        assert here.semaphore("gpu", permits=4).free() == 3
    assert here.semaphore("gpu", permits=4).free() == 4
    with there.attach(here.read_write("x").write().acquire().detach()) as writer:
        assert isinstance(writer, ReadWriteLease)
        assert writer.writes
        with pytest.raises(NotAcquired):
            here.read_write("x").read(wait=0.0).acquire()
        writer.downgrade()
        here.read_write("x").read(wait=0.0).acquire().release()
    stock = here.segmented("stock", segments=8, wait=0.0)
    with there.attach(stock.lock("a", "b").acquire().detach()):
        with pytest.raises(NotAcquired):
            stock.whole().acquire()
    stock.whole().acquire().release()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"x"', "{}", "x" * (LIMIT + 1), "[" * 50_000, None, b"{}", 7,
        '{"v":1}',
    ],
)  # fmt: skip
def test_O4_what_is_no_hand_over_is_refused(here: Locks, text: Any) -> None:
    with pytest.raises(Misuse, match="attach"):
        here.attach(text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"v": 2}, "version 2"),
        ({"kind": "latch"}, "does not name"),
        ({"name": ""}, "does not name"),
        ({"units": []}, "does not name"),
        ({"units": [["", 1]]}, "another"),
        ({"units": [["", -1, 1]]}, "another"),
        ({"fence": "7"}, "another"),
        ({"fence": True}, "another"),
        ({"ttl": -1.0}, "ttl must be"),
        ({"ttl": "10"}, "ttl must be"),
        ({"token": 7}, "another"),
        ({"token": ""}, "does not name"),
        ({"hold": -1.0}, "does not name"),
        ({"hold": "x"}, "another"),
    ],
)
def test_O4_a_text_that_was_changed_is_refused(here: Locks, change: dict[str, Any], why: str) -> None:
    text = here.mutex("x").acquire().detach()
    with pytest.raises(Misuse, match=why):
        here.attach(json.dumps(json.loads(text) | change))
    here.attach(text).release()


def test_O4_another_fence_or_token_in_the_text_holds_nothing(here: Locks) -> None:
    text = here.mutex("x").acquire().detach()
    for change in ({"fence": 1}, {"token": "mine"}, {"name": "y"}):
        with pytest.raises(LockLost):
            here.attach(json.dumps(json.loads(text) | change))
    here.attach(text).release()


def test_O4_a_text_is_attached_once_in_a_process(here: Locks) -> None:
    text = here.mutex("x").acquire().detach()
    lease = here.attach(text)
    with pytest.raises(Misuse, match="attached once"):
        here.attach(text)
    lease.release()
    with pytest.raises(LockLost):
        here.attach(text)


def test_O4_a_store_that_does_not_answer_leaves_the_lease_where_it_is(
    here: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = here.mutex("x").acquire()
    backend = here._protocol.backend
    answering = backend.renew

    async def silent(*_: Any) -> list[Kept]:
        raise OutcomeUnknown("sent and not answered")

    async def gone(*_: Any) -> list[Kept]:
        raise Unavailable("not reached")

    for failing in (silent, gone):
        monkeypatch.setattr(backend, "renew", failing)
        with pytest.raises((OutcomeUnknown, Unavailable)):
            lease.detach()
        lease.check()
    monkeypatch.setattr(backend, "renew", answering)
    text = lease.detach()
    monkeypatch.setattr(backend, "renew", silent)
    with pytest.raises(OutcomeUnknown):
        here.attach(text)
    monkeypatch.setattr(backend, "renew", answering)
    here.attach(text).release()  # attaching again is safe


def test_O4_a_store_of_sessions_refuses(here: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = here.mutex("x").acquire()
    monkeypatch.setattr(type(here._protocol.backend), "session", 10.0)
    with pytest.raises(Misuse, match="lives with this process's session"):
        lease.detach()
    monkeypatch.undo()
    lease.check()
    lease.release()


def test_O4_the_outermost_handle_alone_is_handed_over(here: Locks, there: Locks) -> None:
    outer = here.mutex("x", reentrant=True).acquire()
    inner = here.mutex("x", reentrant=True).acquire()
    with pytest.raises(Misuse, match="entered 2 times"):
        inner.detach()
    inner.release()
    with pytest.raises(LockLost, match="released"):
        inner.detach()
    with there.attach(outer.detach()) as attached:
        assert attached.fence == outer.fence
        with pytest.raises(LockLost):  # the thread that handed it over is inside no longer
            here.mutex("x", reentrant=True, wait=0.0).acquire()
        outer.release()
        attached.check()


def test_O4_what_is_left_of_max_hold_goes_with_it(here: Locks, there: Locks) -> None:
    lease = here.mutex("x", ttl=30.0, max_hold=20.0).acquire()
    attached = there.attach(lease.detach())
    assert 10.0 < attached.remaining() <= 20.0
    attached.release()
