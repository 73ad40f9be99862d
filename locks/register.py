"""A value that many change by pure functions: compare-and-set over a document, with every doubt settled.

Theory of operation. A step is a pure function from a state, and the store's clock, to the next state and an answer.
To take it, read the document, compute, and write the result if the document still has the version that was read;
if somebody was faster, read again. Steps of different processes therefore happen one after the other.

A write that was not answered is settled by reading. Each write leaves a mark of its own, and a document remembers
the latest `REMEMBERED` marks and counts its writes. So a reader knows: the version is unchanged (the write may still
arrive, and sending the same one again is safe, since only one of them can find that version), or our mark is there
(done), or it is not there and fewer than `REMEMBERED` writes came since (never done, and never will be). Only where
more came, or the document was made anew, the outcome stays unknown; a step that finds its own work in the state is
then simply taken again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.runtime import Runtime

from .claims import Resource
from .documents import Document, Documents, Watch
from .leases.lease import TICK

__all__ = ["BEAT", "REMEMBERED", "Form", "Next", "Register", "Seen", "Store"]

S = TypeVar("S")
A = TypeVar("A")

FORMAT = 1
REMEMBERED = 32
"""Writes that a document remembers by their marks."""

BEAT = 2.0
"""Seconds between two looks of one who waits: a lost hint costs this and no more."""

STALE = 0.5  # s by which a clock that is told only with writes may lag behind before a step is taken again
RETRY, RETRY_CAP = 0.02, 0.5  # s, pauses after a request that was not answered
LAST_LOOK = 0.01  # s; with less time left a request would more likely be cut off than answered
LEAST = 0.05  # s for an exchange that is made although no time is left: less would more likely be cut off than answered
COLLISION, COLLISION_CAP = 0.001, 0.1  # s, pauses after somebody was faster


class Form(Protocol[S]):
    """How a state is written as JSON."""

    def load(self, body: Mapping[str, Any]) -> S:
        """Return the state."""
        ...

    def dump(self, state: S) -> dict[str, Any]:
        """Return what is written."""
        ...


class Next(NamedTuple, Generic[S, A]):
    """What a step leads to."""

    answer: A
    state: S | None = None
    """The next state; None where nothing changes."""
    timed: bool = False
    """Whether the state has times in it, so that the step must be taken again where the clock had been stale."""


class Seen(NamedTuple, Generic[S]):
    """A state as it was at one moment."""

    state: S
    version: int
    server_time: float


class Store(Protocol):
    """What a register needs to know of a backend."""

    @property
    def label(self) -> str:
        """What errors call it."""
        ...

    @property
    def patience(self) -> float:
        """Seconds for one exchange."""
        ...

    @property
    def documents(self) -> Documents | None:
        """The documents of this store."""
        ...


class _Page(NamedTuple):
    """The envelope around a state."""

    born: str
    writes: int
    marks: list[str]
    body: Mapping[str, Any]


class Register(Generic[S]):
    """One shared value.

    Args:
        runtime: the make that the store is of.
        store: where the document is.
        resource: which document.
        form: how its state is written.
        keep: seconds after which the store may forget the untouched value; None keeps it.
    """

    def __init__(self, runtime: Runtime, store: Store, resource: Resource, form: Form[S], keep: float | None) -> None:
        if store.documents is None:
            raise Misuse(f"{store.label} keeps no documents, so it has no {resource.kind}; use Redis, SQL or memory")
        self.runtime, self.resource = runtime, resource
        self._documents, self._patience, self._form, self._keep = store.documents, store.patience, form, keep

    async def look(self, until: float) -> Seen[S] | None:
        """Return the state, None where there is none yet; ask again until it is answered or the time `until`.

        Raises:
            Unavailable, OutcomeUnknown: the store did not answer in time; nothing was changed.
        """
        document = await self._read(until)
        return None if document is None else self._seen(document)

    async def change(self, step: Callable[[S | None, float], Next[S, A]], until: float, *, again: bool = False) -> A:
        """Take a step and return its answer.

        Args:
            step: gets the state, None where there is none yet, and the store's clock.
            until: the time of this host when to give up.
            again: whether the step finds its own work in the state, so that taking it twice changes nothing more.

        Raises:
            Unavailable: nothing was changed.
            OutcomeUnknown: the store stopped answering, or too much has happened since to tell.
        """
        document, collisions = await self._read(until), 0
        while True:
            page = None if document is None else self._page(document)
            state = None if page is None else self._form.load(page.body)
            clock = 0.0 if document is None else document.server_time
            following = step(state, clock)
            if following.state is None:
                return following.answer
            mark = secrets.token_hex(6)
            text = self._text(page, mark, following.state)
            version = 0 if document is None else document.version
            written, document = await self._write(text, version, mark, page, until, again)
            if written:
                if following.timed and document is not None and document.server_time - clock > STALE:
                    continue  # the times were made by a clock that had stood still
                return following.answer
            collisions += 1
            if self._left(until) <= TICK:
                raise Unavailable(f"{self.resource} is changed by many at once; nothing was changed by this call")
            pause = min(COLLISION * 2.0 ** min(collisions, 10), COLLISION_CAP)
            if collisions > 1:
                await self.runtime.sleep(self.runtime.uniform(0.0, pause))
            document = await self._read(until)

    async def follow(
        self, decide: Callable[[Seen[S] | None], Coroutine[Any, Any, A | None]], until: float, beat: float = BEAT
    ) -> A | None:
        """Look at once, at each change and every `beat` seconds, until `decide` returns something or the time is up.

        Raises:
            Unavailable, OutcomeUnknown: the store did not answer at the last look.
        """
        answer = await decide(await self.look(max(until, self.runtime.now() + self._patience)))
        watch: Watch | None = None
        try:
            while answer is None and self._left(until) > LAST_LOOK:
                if watch is None:
                    watch = await self._listen(until)  # what came before this is seen by the next look
                else:
                    await self._hinted(watch, min(self._left(until), beat * self.runtime.uniform(0.8, 1.0)), until)
                    if self._left(until) <= LAST_LOOK:
                        break
                answer = await decide(await self.look(until))
        except GeneratorExit:
            raise
        except BaseException:
            if watch is not None:
                await self.runtime.shield(watch.close())
            raise
        if watch is not None:
            await watch.close()
        if answer is None:
            await self.runtime.sleep(self._left(until))
        return answer

    async def _listen(self, until: float) -> Watch | None:
        """Ask for hints; where that does not work the looks themselves tell whether the store answers."""
        try:
            return await self._documents.watch(self.resource, self._limit(until))
        except (Unavailable, OutcomeUnknown):
            await self.runtime.sleep(min(self._left(until), RETRY_CAP))
            return None

    async def _hinted(self, watch: Watch, pause: float, until: float) -> None:
        try:
            await watch.wait(pause)
        except (Unavailable, OutcomeUnknown):  # no hints for now: the next look tells whether the store answers
            await self.runtime.sleep(max(0.0, min(self._left(until), RETRY_CAP)))

    def _seen(self, document: Document) -> Seen[S]:
        return Seen(self._form.load(self._page(document).body), document.version, document.server_time)

    async def _read(self, until: float) -> Document | None:
        failures = 0
        while True:
            try:
                return await self._documents.read(self.resource, self._limit(until))
            except (Unavailable, OutcomeUnknown) as error:
                failures += 1
                await self._pause(failures, until, error)

    async def _write(
        self, text: str, version: int, mark: str, page: _Page | None, until: float, again: bool
    ) -> tuple[bool, Document | None]:
        """Write once; return whether it was done, and the document of now if it is known."""
        doubt: OutcomeUnknown | None = None  # an earlier copy that may have arrived, or may yet
        failures = 0
        while True:
            try:
                written = await self._documents.write(self.resource, text, version, self._keep, self._limit(until))
                if written is not None or doubt is None:
                    return written is not None, written
            except (Unavailable, OutcomeUnknown) as error:
                failures += 1
                doubt = error if isinstance(error, OutcomeUnknown) else doubt
                await self._pause(failures, until, doubt or error)
                if doubt is None:
                    continue
            try:
                document = await self._read(until)
            except (Unavailable, OutcomeUnknown) as error:
                raise doubt from error
            if (0 if document is None else document.version) == version:
                if self._left(until) <= TICK:
                    raise doubt
                continue  # only one of two copies can find this version
            found = None if document is None else self._page(document)
            if found is not None and mark in found.marks:
                return True, document
            if again or (found is not None and _all_remembered(page, found)):
                return False, document
            raise OutcomeUnknown(
                f"{self.resource}: a change was sent and not answered, and too much has happened since to tell "
                "whether it was done; look before you repeat it",
                ask={"resource": str(self.resource), "mark": mark},
            ) from doubt

    async def _pause(self, failures: int, until: float, error: Exception) -> None:
        """Wait a little before asking again; raise `error` where the time is up."""
        left = self._left(until)
        if left <= TICK:
            raise error
        pause = min(RETRY * 2.0 ** min(failures, 10), RETRY_CAP)
        await self.runtime.sleep(min(self.runtime.uniform(0.0, pause), left))

    def _left(self, until: float) -> float:
        return until - self.runtime.now()

    def _limit(self, until: float) -> float:
        return min(self._patience, max(self._left(until), LEAST))

    def _text(self, page: _Page | None, mark: str, state: S) -> str:
        born, count, marks = (secrets.token_hex(6), 0, []) if page is None else (page.born, page.writes, page.marks)
        return json.dumps(
            {
                "v": FORMAT,
                "born": born,
                "writes": count + 1,
                "marks": [*marks, mark][-REMEMBERED:],
                "state": self._form.dump(state),
            },
            separators=(",", ":"),
        )

    def _page(self, document: Document) -> _Page:
        try:
            read = json.loads(document.text)
            if read["v"] != FORMAT:
                raise Misuse(
                    f"{self.resource} is written in format {read['v']}, and this version of backstay reads "
                    f"format {FORMAT}; upgrade all who share it"
                )
            return _Page(read["born"], read["writes"], read["marks"], read["state"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, Misuse):
                raise
            raise Misuse(f"{self.resource} holds a document that backstay did not write: {error}") from error


def _all_remembered(page: _Page | None, found: _Page) -> bool:
    """Return whether `found` has the marks of all writes since `page`, so that what it lacks was not written."""
    if page is None:
        return found.writes <= REMEMBERED
    return found.born == page.born and found.writes - page.writes <= REMEMBERED
