"""Documents as nodes: compare-and-set by the node's version and an epoch, hints by watches.

A node that is deleted and made again counts its versions from 0 again, so the version alone would let a writer
through who read the text before. Deleting therefore raises an epoch, one for all documents of a namespace, and
writing checks it in the same transaction. The version of a document is both: epoch first, node second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kazoo import exceptions

from backstay.clock import monotonic
from backstay.errors import BackstayError
from backstay.locks.claims import Resource
from backstay.locks.documents import Document, checked_text
from backstay.runtime import Runtime, Signal

from .client import Answer, Client, Event, Transaction
from .contending import Exchange
from .places import Places

__all__ = ["ZooKeeperDocuments"]

SHIFT = 31  # a node's version is a signed 32-bit number
TURNS = 20


class ZooKeeperWatch:
    """Hints about one document."""

    __slots__ = ("_documents", "_signal", "path")

    def __init__(self, documents: ZooKeeperDocuments, path: str, signal: Signal) -> None:
        self._documents, self.path, self._signal = documents, path, signal

    def hint(self) -> None:
        """Let the reader look; from any thread."""
        self._signal.set()

    async def wait(self, timeout: float) -> bool:
        hinted = await self._signal.wait(timeout)
        self._signal.clear()
        return hinted

    async def close(self) -> None:
        self._documents.drop(self)


class ZooKeeperDocuments:
    """The port of documents over an ensemble."""

    def __init__(self, runtime: Runtime, exchange: Exchange, paths: Places) -> None:
        self._runtime, self._exchange, self._paths = runtime, exchange, paths
        self.forget()

    def forget(self) -> None:
        """Drop all watches: this ends, or is a forked child."""
        self._mutex = threading.Lock()
        self._watches: dict[str, set[ZooKeeperWatch]] = {}

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        until = monotonic() + timeout
        await self._exchange.session.live(timeout)
        path, epoch = self._paths.document(resource), self._paths.epoch
        _, above, found = await self._exchange.ask(
            until,
            [
                lambda client: client.sync_async(path),
                lambda client: client.exists_async(epoch),
                lambda client: client.get_async(path),
            ],
            wrote=False,
        )
        if above is None or isinstance(found, BaseException):
            return None
        text, stat = found
        return Document(text.decode(), _version(above.version, stat.version), stat.mtime / 1000.0)

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        until = monotonic() + timeout
        data = checked_text(resource, text).encode()
        await self._exchange.session.live(timeout)
        path, epoch = self._paths.document(resource), self._paths.epoch
        if version:
            number, before = _parts(version)
            answer, stat = await self._commit(until, path, epoch, number, lambda t: t.set_data(path, data, before))
            if isinstance(answer, BaseException):
                return None
            return Document(text, _version(number, answer.version), answer.mtime / 1000.0)
        for _ in range(TURNS):
            (above,) = await self._exchange.ask(until, [lambda client: client.exists_async(epoch)], wrote=False)
            if above is None:
                await self._exchange.make(path.rpartition("/")[0], until, container=False)
                continue
            number = above.version
            answer, stat = await self._commit(until, path, epoch, number, lambda t: t.create(path, data))
            if isinstance(answer, exceptions.NoNodeError):
                await self._exchange.make(path.rpartition("/")[0], until, container=False)
            elif isinstance(answer, exceptions.NodeExistsError):
                return None
            elif not isinstance(answer, BaseException):
                return Document(text, _version(number, 0), 0.0 if stat is None else stat.mtime / 1000.0)
        return None  # the epoch went on under us each time: others write, and the caller reads again

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        until = monotonic() + timeout
        await self._exchange.session.live(timeout)
        path, epoch = self._paths.document(resource), self._paths.epoch
        number, before = _parts(version)

        def deletion(transaction: Transaction) -> None:
            transaction.delete(path, before)
            transaction.set_data(epoch, b"")  # raises its version

        answer, _ = await self._commit(until, path, epoch, number, deletion)
        return not isinstance(answer, BaseException)

    async def _commit(
        self, until: float, path: str, epoch: str, number: int, change: Callable[[Transaction], None]
    ) -> tuple[Any, Any]:
        """Change something where the epoch is still `number`; return the answer to the change, and the node after."""

        def commit(client: Client) -> Answer:
            transaction = client.transaction()
            transaction.check(epoch, number)
            change(transaction)
            return transaction.commit_async()

        answers, stat = await self._exchange.ask(until, [commit, lambda client: client.exists_async(path)], wrote=True)
        if isinstance(answers, BaseException):
            return answers, stat
        failed = [each for each in answers if isinstance(each, BaseException) and not isinstance(each, _IDLE)]
        if failed:
            return failed[0], stat
        return answers[1], stat

    async def watch(self, resource: Resource, timeout: float) -> ZooKeeperWatch:
        until = monotonic() + timeout
        await self._exchange.session.live(timeout)
        path = self._paths.document(resource)
        watch = ZooKeeperWatch(self, path, self._runtime.signal())
        with self._mutex:
            self._watches.setdefault(path, set()).add(watch)
        try:
            await self._exchange.ask(until, [lambda client: self._listen(client, path)], wrote=False)
        except BackstayError:
            self.drop(watch)
            raise
        return watch

    def drop(self, watch: ZooKeeperWatch) -> None:
        """Hint no longer."""
        with self._mutex:
            others = self._watches.get(watch.path)
            if others is not None:
                others.discard(watch)
                if not others:
                    del self._watches[watch.path]

    def listen_anew(self) -> None:
        """Leave all watches again, since they went with a connection; from the client's thread."""
        with self._mutex:
            paths = list(self._watches)
        for path in paths:
            self._hint(path)

    def _listen(self, client: Client, path: str) -> Answer:
        """Leave a watch, also on a node that is not there yet: one for all, so that none pile up (S6)."""
        return client.exists_async(path, watch=self._happened)

    def _happened(self, event: Event) -> None:
        """Take an event; called by kazoo's thread, which may send but not wait."""
        if event.path is not None:  # else the connection went; it is listened for anew when it is there again
            self._hint(event.path)

    def _hint(self, path: str) -> None:
        """Listen again, and only then tell: what happens after the reader's next look is heard of."""
        with self._mutex:
            watches = list(self._watches.get(path, ()))
        if watches and self._exchange.session.id:
            self._listen(self._exchange.session.client, path)
        for watch in watches:
            watch.hint()


_IDLE = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
"""What a transaction says of its operations that were not the cause of its failure."""


def _version(epoch: int, number: int) -> int:
    return (epoch << SHIFT | number) + 1


def _parts(version: int) -> tuple[int, int]:
    return (version - 1) >> SHIFT, (version - 1) & ((1 << SHIFT) - 1)
