"""Where a process hears that a lock was handed to one of its threads.

One subscribed connection for the process, on a channel whose name nobody can guess and that is never used
again after a reconnection: a server that counts its receivers therefore knows whether the process is alive,
and a late message of an earlier connection finds nobody. There is no dispatcher thread: the thread that waits
first reads for all and wakes the others, then passes the reading on. That saves a thread switch in each
hand-over, which would be half of its time.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from redis import exceptions

from backstay.clock import monotonic
from backstay.errors import Misuse
from backstay.locks.backend import Note

from .answers import not_reached
from .wire import BlockingWire, Connection

__all__ = ["BlockingLetter", "BlockingMailbox", "note_of"]


def note_of(message: Any) -> tuple[str, Note] | None:
    """Read a message `token|fence|server time in us`; None where it is something else."""
    try:
        kind, _, text = message
        if kind != b"message":
            return None
        token, fence, moment = text.decode().split("|")
        return token, Note(int(fence), int(moment) / 1e6)
    except (TypeError, ValueError):  # not ours: somebody else published here
        return None


class BlockingLetter:
    """One thread's place in the mailbox."""

    __slots__ = ("_box", "_token", "gate", "look_again", "note", "waiting")

    def __init__(self, box: BlockingMailbox, token: str) -> None:
        self._box, self._token = box, token
        self.note: Note | None = None
        self.look_again = False
        self.waiting = False
        self.gate = threading.Lock()  # closed; opened by whoever has something for this thread
        self.gate.acquire()

    @property
    def address(self) -> str:
        return self._box.address

    async def wait(self, timeout: float) -> Note | None:
        return self._box.wait(self, timeout)

    def close(self) -> None:
        self._box.remove(self._token)


class BlockingMailbox:
    """The mailbox of all threads of a process for one server."""

    def __init__(self, wire: BlockingWire, space: str, label: str) -> None:
        self._wire, self._space, self._label = wire, space, label
        self._begin()

    def _begin(self) -> None:
        self.address = ""
        self._closed = False
        self._connection: Connection | None = None
        self._mutex = threading.Lock()
        self._opening = threading.Lock()
        self._letters: dict[str, BlockingLetter] = {}
        self._leader: BlockingLetter | None = None

    def letter(self, token: str) -> BlockingLetter | None:
        """Return a place for `token`, None where the mailbox was never opened."""
        if not self.address:
            return None
        letter = self._letters[token] = BlockingLetter(self, token)
        return letter

    def remove(self, token: str) -> None:
        """Give a place up."""
        self._letters.pop(token, None)

    async def open(self, timeout: float) -> None:
        """Subscribe, and wait until the server has confirmed it (W1)."""
        until = monotonic() + timeout
        if not self._opening.acquire(timeout=timeout):
            raise not_reached(self._label, TimeoutError("another thread is still subscribing"))
        try:
            if self.address:
                return
            if self._closed:
                raise Misuse(f"the locks at {self._label} were closed; connect again")
            connection = self._wire.connected(timeout)
            channel = f"backstay:{self._space}:mail:{secrets.token_hex(16)}"
            try:
                connection.send_packed_command(connection.pack_command("SUBSCRIBE", channel), check_health=False)
                connection.read_response(timeout=max(until - monotonic(), 0.001))
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                connection.disconnect()
                raise not_reached(self._label, error) from error
            except BaseException:
                connection.disconnect()
                raise
            self._connection, self.address = connection, channel
        finally:
            self._opening.release()

    def wait(self, letter: BlockingLetter, timeout: float) -> Note | None:
        """Wait for this letter's note, reading for all if nobody does."""
        until = monotonic() + timeout
        try:
            while True:
                with self._mutex:
                    if letter.note is not None or letter.look_again or monotonic() >= until:
                        note, letter.note, letter.look_again = letter.note, None, False
                        return note
                    letter.waiting = True
                    connection = self._connection
                    if self._leader is None and connection is not None:
                        self._leader = letter
                    leads = self._leader is letter
                if not leads or connection is None:
                    letter.gate.acquire(timeout=max(until - monotonic(), 0.0))
                    continue
                self._read_for_all(connection, letter, until)
        finally:
            self._step_down(letter)

    def _read_for_all(self, connection: Connection, letter: BlockingLetter, until: float) -> None:
        while letter.note is None and not letter.look_again:
            left = until - monotonic()
            if left <= 0:
                return
            try:
                message = connection.read_response(timeout=left, disconnect_on_error=False)
            except exceptions.TimeoutError:
                return
            except (exceptions.RedisError, OSError, AttributeError):  # AttributeError: closed under our hands
                self._cut_off(connection)
                return
            found = note_of(message)
            if found is not None:
                with self._mutex:
                    receiver = self._letters.get(found[0])
                    if receiver is not None:  # a note for nobody is ignored: giving it back would be wrong
                        receiver.note = found[1]
                        _open_gate(receiver)

    def _step_down(self, letter: BlockingLetter) -> None:
        with self._mutex:
            letter.waiting = False
            if self._leader is letter:
                self._leader = None
            if self._leader is None:
                # Also where this thread was offered the reading just as its time was up: it passes the offer on.
                for other in tuple(self._letters.values()):  # others come and go meanwhile
                    if other.waiting and other.note is None:
                        _open_gate(other)
                        return

    def _cut_off(self, connection: Connection) -> None:
        """Let everybody look again: notes may have been missed, and the next address is another (W3)."""
        with self._mutex:
            if self._connection is connection:
                self._connection, self.address = None, ""
            for letter in tuple(self._letters.values()):
                letter.look_again = True
                _open_gate(letter)
        connection.disconnect()

    async def close(self) -> None:
        """Unsubscribe for good; whoever waits looks again and is refused."""
        self._closed = True
        self.cut_off()

    def cut_off(self) -> None:
        """Unsubscribe, and let whoever waits look again."""
        connection = self._connection
        if connection is not None:
            self._cut_off(connection)

    def forked(self) -> None:
        """Begin anew: the channel, the waiters and perhaps a held mutex belong to the parent."""
        self._begin()


def _open_gate(letter: BlockingLetter) -> None:
    if letter.gate.locked():
        letter.gate.release()
