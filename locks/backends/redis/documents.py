"""Documents on Redis: a version and a text in one key, and hints by the mailbox that notes of locks come by.

Whoever watches has a place in the mailbox, as a waiter has; its address stands beside the document, and the script
that changes the document sends a note there. So a process has one subscription for all that it waits for.
"""

from __future__ import annotations

import secrets
from typing import Protocol

from backstay.clock import Clock
from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.locks.backend import Letter
from backstay.locks.claims import Resource
from backstay.locks.documents import Document, checked_text
from backstay.locks.leases.lease import TICK

from .answers import Wire
from .keys import document_keys
from .reading import milliseconds
from .scripts import DELETE, READ, UNWATCH, WATCH, WRITE

__all__ = ["RedisDocuments", "RedisWatch"]

ASKED = 60.0  # s for which a place is sent hints; whoever goes on watching asks again in time
ASK_AGAIN = ASKED / 3
EARLY = 0.002  # s before its time at which a wait without a note counts as cut short


class Mailbox(Protocol):
    """What documents need of a mailbox, in either make."""

    def letter(self, token: str) -> Letter | None: ...
    async def open(self, timeout: float) -> None: ...


class RedisDocuments:
    """The port of documents over scripts; the wire and the mailbox give it its make."""

    def __init__(self, wire: Wire, mailbox: Mailbox, space: str, label: str, patience: float, clock: Clock) -> None:
        self._wire, self._mailbox, self._space = wire, mailbox, space
        self._call = wire.call
        self._label, self._patience, self._clock = label, patience, clock

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        (moment, found), _ = await self._call(READ, document_keys(self._space, resource)[:1], (), timeout)
        if not found:
            return None
        version, _, text = found.decode().partition("|")
        return Document(text, int(version), int(moment) / 1e6)

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        """See `Documents.write`.

        Raises:
            Misuse: the text is too long, or the ttl is not above 0.
            OutcomeUnknown: also where the request was sent twice and refused the second time.
        """
        checked_text(resource, text)
        if ttl is not None and ttl <= 0.0:
            raise Misuse(f"{resource}: the ttl of a document is > 0 s or None, got {ttl:g}")
        lasts = "" if ttl is None else milliseconds(ttl)
        answer, again = await self._call(WRITE, document_keys(self._space, resource), (version, text, lasts), timeout)
        if answer == 0:
            self._surely(resource, again)
            return None
        moment, written = answer
        return Document(text, int(written), int(moment) / 1e6)

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        answer, again = await self._call(DELETE, document_keys(self._space, resource), (version,), timeout)
        if answer == 0:
            self._surely(resource, again)
        return bool(answer)

    async def watch(self, resource: Resource, timeout: float) -> RedisWatch:
        until = self._clock() + timeout
        await self._mailbox.open(min(timeout, self._patience))
        token = f"watch-{secrets.token_hex(16)}"
        letter = self._mailbox.letter(token)
        if letter is None:  # cut off between the two lines
            raise Unavailable(f"{self._label} closed the subscription to its notes just now")
        key = document_keys(self._space, resource).watchers
        watch = RedisWatch(self._wire, self._mailbox, key, token, letter, self._patience, self._clock)
        try:
            await watch.ask(max(until - self._clock(), 0.001))
        except GeneratorExit:
            raise
        except BaseException:
            letter.close()
            raise
        return watch

    def _surely(self, resource: Resource, again: bool) -> None:
        """Refuse to say that another was faster where it may have been an earlier copy of the same request."""
        if again:
            raise OutcomeUnknown(
                f"{resource}: a change was sent to {self._label} twice, and the first copy may have made it; read again"
            )


class RedisWatch:
    """One place in the mailbox that is sent a note for each change."""

    def __init__(
        self, wire: Wire, mailbox: Mailbox, key: str, token: str, letter: Letter, patience: float, clock: Clock
    ) -> None:
        self._call, self._mailbox, self._key = wire.call, mailbox, key
        self._token, self._letter = token, letter
        self._patience, self._clock = patience, clock
        self._address = ""
        self._asked_at = 0.0

    async def ask(self, timeout: float) -> None:
        """Have hints sent to this place, and to no earlier address of it."""
        until = self._clock() + timeout
        if not self._letter.address:
            await self._mailbox.open(min(timeout, self._patience))
        address, now = self._letter.address, self._clock()
        within = min(max(until - now, 0.001), self._patience)
        await self._call(WATCH, (self._key,), (self._token, address, int(ASKED * 1000)), within)
        self._address, self._asked_at = address, now

    async def wait(self, timeout: float) -> bool:
        """See `Watch.wait`.

        Raises:
            Unavailable, OutcomeUnknown: hints could not be asked for again after the connection was lost.
        """
        now = self._clock
        until = now() + timeout
        while True:
            if not self._letter.address or self._letter.address != self._address:
                await self.ask(max(until - now(), 0.001))
                return True  # what happened while the address was another was not told
            if now() - self._asked_at >= ASK_AGAIN:
                await self.ask(max(until - now(), 0.001))
            left = until - now()
            if left <= TICK:
                return False
            awaited = now() + min(left, ASK_AGAIN)
            if await self._letter.wait(min(left, ASK_AGAIN)) is not None:
                return True
            if now() < awaited - EARLY:
                self._address = ""  # cut off, or a note that is a hint only: there may be another address now

    async def close(self) -> None:
        self._letter.close()
        try:
            await self._call(UNWATCH, (self._key,), (self._token,), min(self._patience, 1.0))
        except (Unavailable, OutcomeUnknown):
            return  # the place is gone, so the next change forgets it; at the latest it lapses
