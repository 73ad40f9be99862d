"""Where an event loop hears that a lock was handed to one of its tasks: one subscribed connection, one reader."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from redis import exceptions

from backstay.errors import Misuse
from backstay.locks.backend import Note

from .answers import not_reached
from .async_wire import AsyncConnection, AsyncWire
from .mailbox import note_of

__all__ = ["AsyncLetter", "AsyncMailbox"]


class AsyncLetter:
    """One task's place in the mailbox."""

    __slots__ = ("_box", "_future", "_look_again", "_note", "_token")

    def __init__(self, box: AsyncMailbox, token: str) -> None:
        self._box, self._token = box, token
        self._note: Note | None = None
        self._look_again = False
        self._future: asyncio.Future[None] | None = None

    @property
    def address(self) -> str:
        return self._box.address

    async def wait(self, timeout: float) -> Note | None:
        if self._note is None and not self._look_again:
            loop = asyncio.get_running_loop()
            future = self._future = loop.create_future()
            timer = loop.call_later(timeout, _settle, future)
            try:
                await future
            finally:
                timer.cancel()
                self._future = None
        note, self._note, self._look_again = self._note, None, False
        return note

    def deliver(self, note: Note | None) -> None:
        """Leave a note, or with None let the task look again."""
        self._note = note or self._note
        self._look_again = note is None
        if self._future is not None:
            _settle(self._future)

    def close(self) -> None:
        self._box.letters.pop(self._token, None)


class AsyncMailbox:
    """The mailbox of all tasks of an event loop for one server."""

    def __init__(self, wire: AsyncWire, space: str, label: str) -> None:
        self._wire, self._space, self._label = wire, space, label
        self.address = ""
        self.letters: dict[str, AsyncLetter] = {}
        self._closed = False
        self._opening = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    def letter(self, token: str) -> AsyncLetter | None:
        """Return a place for `token`, None where the mailbox was never opened."""
        if not self.address:
            return None
        letter = self.letters[token] = AsyncLetter(self, token)
        return letter

    async def open(self, timeout: float) -> None:
        """Subscribe, and wait until the server has confirmed it (W1)."""
        try:
            async with asyncio.timeout(timeout), self._opening:
                if self.address:
                    return
                if self._closed:
                    raise Misuse(f"the locks at {self._label} were closed; connect again")
                connection = await self._wire.connected(timeout)
                channel = f"backstay:{self._space}:mail:{secrets.token_hex(16)}"
                try:
                    await connection.send_packed_command(
                        connection.pack_command("SUBSCRIBE", channel), check_health=False
                    )
                    await connection.read_response()
                except GeneratorExit:
                    raise
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self.address = channel
                loop = asyncio.get_running_loop()
                self._reader = loop.create_task(self._read(connection), name="backstay-locks-mailbox")
        except (exceptions.ConnectionError, exceptions.TimeoutError, TimeoutError) as error:
            raise not_reached(self._label, error) from error

    async def _read(self, connection: AsyncConnection) -> None:
        try:
            while True:
                found = note_of(await connection.read_response(disconnect_on_error=False))
                if found is not None:
                    receiver = self.letters.get(found[0])
                    if receiver is not None:  # a note for nobody is ignored: giving it back would be wrong
                        receiver.deliver(found[1])
        except (exceptions.RedisError, OSError):
            pass  # what was missed is asked for again below
        finally:
            self.address = ""
            for letter in tuple(self.letters.values()):
                letter.deliver(None)
            with contextlib.suppress(exceptions.RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Unsubscribe for good; whoever waits looks again and is refused."""
        self._closed = True
        self.cut_off()

    def cut_off(self) -> None:
        """Unsubscribe, and let whoever waits look again."""
        if self._reader is not None:
            self._reader.cancel()

    def forked(self) -> None:
        """Nothing: the loop of this mailbox does not run in the child."""


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
