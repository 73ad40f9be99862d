"""The mailbox of threads: who reads, who is woken, what is ignored. The connection is a fake: what is tested is the
order of hand-overs between threads, which a real server would decide by chance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from redis import exceptions

from backstay.blocking import drive
from backstay.locks.backend import Note
from backstay.locks.backends.redis.mailbox import BlockingLetter, BlockingMailbox, note_of

CONFIRMED = [b"subscribe", b"channel", 1]


class FakeConnection:
    def __init__(self) -> None:
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self.readers = 0
        self.most_readers = 0
        self.closed = threading.Event()
        self.reading = threading.Event()

    def pack_command(self, *parts: Any) -> Any:
        return parts

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.messages.put(CONFIRMED)

    def read_response(self, *, timeout: float, disconnect_on_error: bool = True) -> Any:
        self.readers += 1
        self.most_readers = max(self.most_readers, self.readers)
        self.reading.set()
        try:
            message = self.messages.get(timeout=timeout)
        except Empty:
            raise exceptions.TimeoutError from None
        finally:
            self.readers -= 1
        if message is None:
            raise exceptions.ConnectionError("closed")
        return message

    def connect(self) -> None: ...

    def disconnect(self) -> None:
        self.closed.set()

    def tell(self, token: str, fence: int) -> None:
        self.messages.put([b"message", b"channel", f"{token}|{fence}|1000000".encode()])


class FakeWire:
    def __init__(self) -> None:
        self.made: list[FakeConnection] = []

    def connected(self, timeout: float) -> FakeConnection:
        self.made.append(FakeConnection())
        return self.made[-1]


@pytest.fixture
def wire() -> FakeWire:
    return FakeWire()


@pytest.fixture
def box(wire: FakeWire) -> BlockingMailbox:
    box = BlockingMailbox(wire, "s", "redis://fake")  # type: ignore[arg-type]
    drive(box.open(1.0))
    return box


def letter(box: BlockingMailbox, token: str) -> BlockingLetter:
    made = box.letter(token)
    assert made is not None
    return made


def waiting(made: BlockingLetter, into: list[Any], timeout: float = 20.0) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.append(drive(made.wait(timeout))))
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000_000):
        if condition():
            return
    raise AssertionError("it did not come to pass")


def test_before_it_was_opened_there_is_no_place(wire: FakeWire) -> None:
    assert BlockingMailbox(wire, "s", "redis://fake").letter("t") is None  # type: ignore[arg-type]


def test_one_thread_reads_for_all_and_the_reading_is_passed_on(box: BlockingMailbox, wire: FakeWire) -> None:
    letters = [letter(box, f"t{number}") for number in range(8)]
    got: list[list[Any]] = [[] for _ in letters]
    threads = [waiting(made, into) for made, into in zip(letters, got, strict=True)]
    until(lambda: all(made.waiting for made in letters))
    for number in (3, 0, 7, 1, 2, 4, 6, 5):
        wire.made[0].tell(f"t{number}", number + 1)
    for thread in threads:
        thread.join(20.0)
    assert got == [[Note(number + 1, 1.0)] for number in range(8)]
    assert wire.made[0].most_readers == 1


def test_a_note_for_nobody_is_ignored(box: BlockingMailbox, wire: FakeWire) -> None:
    made, got = letter(box, "t"), []  # type: ignore[var-annotated]
    thread = waiting(made, got)
    wire.made[0].tell("gone", 1)
    wire.made[0].messages.put([b"pong", b""])
    wire.made[0].messages.put(7)
    wire.made[0].tell("t", 2)
    thread.join(20.0)
    assert got == [Note(2, 1.0)]


def test_W3_after_a_cut_everybody_looks_again_and_the_channel_is_another(box: BlockingMailbox, wire: FakeWire) -> None:
    letters = [letter(box, f"t{number}") for number in range(4)]
    before = box.address
    got: list[Any] = []
    threads = [waiting(made, got) for made in letters]
    until(lambda: all(made.waiting for made in letters))
    wire.made[0].messages.put(None)
    for thread in threads:
        thread.join(20.0)
    assert got == [None] * 4
    assert box.address == letters[0].address == ""
    assert wire.made[0].closed.is_set()
    drive(box.open(1.0))
    assert box.address not in ("", before)
    assert len(wire.made) == 2


def test_an_offer_to_read_that_came_too_late_is_passed_on(box: BlockingMailbox, wire: FakeWire) -> None:
    """The leader offers the reading to a thread whose time is just up; without passing it on nobody would read."""
    late, other = letter(box, "late"), letter(box, "other")
    other.waiting = True
    assert other.gate.locked()
    box._step_down(late)
    assert not other.gate.locked()


def test_a_place_that_was_given_up_is_forgotten(box: BlockingMailbox) -> None:
    made = letter(box, "t")
    made.close()
    assert box._letters == {}


@pytest.mark.parametrize(
    "message",
    [None, 7, b"x", [], [b"message", b"c"], [b"subscribe", b"c", 1], [b"message", b"c", b"x"],
     [b"message", b"c", b"t|1"], [b"message", b"c", b"t|x|1"], [b"pmessage", b"c", b"t|1|1"]],
)  # fmt: skip
def test_messages_that_are_no_notes_are_none(message: Any) -> None:
    assert note_of(message) is None
