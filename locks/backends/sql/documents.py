"""Documents as rows: compare and set by version; hints by looking."""

from __future__ import annotations

from typing import Any

from backstay.errors import Misuse, Unavailable
from backstay.locks.claims import Resource
from backstay.locks.documents import LIMIT, Document
from backstay.runtime import Runtime, Signal

from .exchange import Desk, Exchanges
from .rows import printable
from .schema import key_of

__all__ = ["SqlDocuments"]

SHORTEST, LONGEST, GROWTH = 0.005, 0.2, 1.5  # s, s, factor
LAST_LOOK = 0.05  # s that a look gets at least
RARELY = 64  # new documents for each sweep of those whose time is over
GRACE = 60_000_000  # microseconds for which one whose time is over is left alone


class SqlDocuments:
    """The documents of one namespace, in either make."""

    def __init__(self, runtime: Runtime, exchanges: Exchanges, space: str) -> None:
        self._runtime, self._exchanges, self._space = runtime, exchanges, space
        self._watches: set[PollingWatch] = set()
        self._made = 0

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        """See `Documents.read`."""
        return await self._exchanges.run(lambda desk: self._read(desk, resource)[0], timeout)

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        """See `Documents.write`."""
        if len(text.encode()) > LIMIT:
            raise Misuse(f"{resource}: a document has at most {LIMIT} bytes, got {len(text.encode())}")

        def work(desk: Desk) -> Document | None:
            found, stands, now = self._read(desk, resource)
            if (0 if found is None else found.version) != version:
                return None
            # By the clock where there is no row, so that no version comes again after a deletion.
            after = max(now, (stands or 0) + 1)
            expires = 0 if ttl is None else now + int(ttl * 1e6)
            key = key_of(self._space, resource)
            if stands is None:
                written = desk.write(
                    desk.statements.new_document, id=key, namespace=self._space, kind=resource.kind,
                    name=printable(resource.name), version=after, expires=expires, text=text,
                )  # fmt: skip
                self._made += 1
                if self._made % RARELY == 0:
                    desk.write(desk.statements.forget_documents, before=now - GRACE)
            else:
                written = desk.write(
                    desk.statements.change_document, key=key, read=stands,
                    new_version=after, new_expires=expires, new_text=text,
                )  # fmt: skip
            return Document(text, after, now / 1e6) if written else None

        written = await self._exchanges.run(work, timeout)
        self._hint(resource)
        return written

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        """See `Documents.delete`. The row stays for a while, without its text, so that no version comes again."""

        def work(desk: Desk) -> bool:
            found, _, now = self._read(desk, resource)
            if found is None or found.version != version:
                return False
            return desk.write(
                desk.statements.change_document, key=key_of(self._space, resource), read=version,
                new_version=version + 1, new_expires=now, new_text="",
            )  # fmt: skip

        deleted = await self._exchanges.run(work, timeout)
        self._hint(resource)
        return deleted

    async def watch(self, resource: Resource, timeout: float) -> PollingWatch:
        """See `Documents.watch`."""
        found = await self.read(resource, timeout)
        watch = PollingWatch(self._runtime, self, resource, 0 if found is None else found.version, timeout)
        self._watches.add(watch)
        return watch

    def drop(self, watch: PollingWatch) -> None:
        """Forget one who watched."""
        self._watches.discard(watch)

    def _hint(self, resource: Resource) -> None:
        for watch in list(self._watches):
            if watch.resource == resource:
                watch.wake()

    def _read(self, desk: Desk, resource: Resource) -> tuple[Document | None, int | None, int]:
        """Return the document, the version of its row even where its time is over, and the clock in microseconds."""
        row: Any = desk.read(desk.statements.document, key=key_of(self._space, resource))
        now, version, expires, text = row
        if version is None or (expires and expires <= now):
            return None, version, now
        return Document(text, version, now / 1e6), version, now


class PollingWatch:
    """Looks whether a document has another version than at the last look."""

    __slots__ = ("__weakref__", "_documents", "_patience", "_runtime", "_signal", "_version", "resource")

    def __init__(
        self, runtime: Runtime, documents: SqlDocuments, resource: Resource, version: int, patience: float
    ) -> None:
        self._runtime, self._documents, self.resource = runtime, documents, resource
        self._version, self._patience = version, patience
        self._signal: Signal = runtime.signal()

    def wake(self) -> None:
        """Look now."""
        self._signal.set()

    async def wait(self, timeout: float) -> bool:
        """Look again and again, with growing pauses; a change of this process is seen at once."""
        now = self._runtime.now
        until, pause = now() + timeout, SHORTEST
        while True:
            left = until - now()
            try:
                found = await self._documents.read(self.resource, min(self._patience, max(left, LAST_LOOK)))
            except Unavailable:  # a look that was not answered is a hint that did not come
                pass
            else:
                version = 0 if found is None else found.version
                if version != self._version:
                    self._version = version
                    return True
            left = until - now()
            if left <= 0.0:
                return False
            if await self._signal.wait(min(pause * self._runtime.uniform(0.7, 1.0), left)):
                pause = SHORTEST
            self._signal.clear()
            pause = min(pause * GROWTH, LONGEST)

    async def close(self) -> None:
        self._documents.drop(self)
