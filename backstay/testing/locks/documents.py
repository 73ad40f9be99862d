"""The contract of a store's documents: what every backend promises, in both makes.

Subclass `DocumentsContract`, give `connect` and `connect_async`, and run it on your store. The suite waits in real time
for what only time can show (that nothing is forgotten early), a few tenths of a second in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from backstay.blocking import drive
from backstay.errors import Misuse
from backstay.locks import AsyncLocks, Locks
from backstay.locks.claims import Resource
from backstay.locks.documents import LIMIT, Document, Documents, Watch

__all__ = ["DocumentsContract"]

T = TypeVar("T")

PATIENCE = 5.0  # s for what should come at once
SOON = 0.3  # s, a ttl that ends within a test


class _WatchInThreads:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def wait(self, timeout: float) -> bool:
        return await asyncio.to_thread(lambda: drive(self._watch.wait(timeout)))

    async def close(self) -> None:
        await asyncio.to_thread(lambda: drive(self._watch.close()))


class _InThreads:
    """The blocking make, each call in a thread of its own."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        return await asyncio.to_thread(lambda: drive(self._documents.read(resource, timeout)))

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        return await asyncio.to_thread(lambda: drive(self._documents.write(resource, text, version, ttl, timeout)))

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        return await asyncio.to_thread(lambda: drive(self._documents.delete(resource, version, timeout)))

    async def watch(self, resource: Resource, timeout: float) -> Watch:
        return _WatchInThreads(await asyncio.to_thread(lambda: drive(self._documents.watch(resource, timeout))))


class DocumentsContract:
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def connect(self) -> Locks:
        """Return blocking locks."""
        raise NotImplementedError

    def connect_async(self) -> AsyncLocks:
        """Return asyncio locks on the same store and namespace."""
        raise NotImplementedError

    @pytest.fixture(params=["threads", "asyncio"])
    def make(self, request: pytest.FixtureRequest) -> str:
        """Which make a test runs on."""
        return str(request.param)

    def run(self, make: str, work: Callable[[Documents], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with one make of the store's documents, and close the store."""

        async def main() -> T:
            async with self.opened(make) as documents:
                return await work(documents)

        return asyncio.run(main())

    @contextlib.asynccontextmanager
    async def opened(self, make: str) -> AsyncGenerator[Documents, None]:
        """Open one make."""
        if make == "threads":
            locks = self.connect()
            documents = locks._protocol.backend.documents
            assert documents is not None, f"{locks!r} keeps no documents"
            try:
                yield _InThreads(documents)
            finally:
                await asyncio.to_thread(locks.close)
        else:
            async with self.connect_async() as tasks:
                found = tasks._protocol().backend.documents
                assert found is not None, f"{tasks!r} keeps no documents"
                yield found

    # -- compare and set

    def test_what_was_never_written_is_not_there(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            nothing = Resource("nothing", "latch")
            assert await documents.read(nothing, PATIENCE) is None
            assert not await documents.delete(nothing, 1, PATIENCE)
            assert await documents.write(nothing, "x", 7, None, PATIENCE) is None, "there is no version 7 to replace"
            assert await documents.read(nothing, PATIENCE) is None

        self.run(make, work)

    def test_only_one_creates_it(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("create", "latch")
            made = await documents.write(page, "mine", 0, None, PATIENCE)
            assert made is not None
            assert made.text == "mine"
            assert made.version > 0
            assert await documents.write(page, "yours", 0, None, PATIENCE) is None
            found = await documents.read(page, PATIENCE)
            assert found is not None
            assert (found.text, found.version) == ("mine", made.version)

        self.run(make, work)

    def test_only_those_who_read_the_latest_change_it(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("cas", "barrier")
            first = await documents.write(page, "1", 0, None, PATIENCE)
            assert first is not None
            second = await documents.write(page, "2", first.version, None, PATIENCE)
            assert second is not None
            assert second.version > first.version
            for stale in (first.version, 0, second.version + 1):
                assert await documents.write(page, "late", stale, None, PATIENCE) is None
            same = await documents.write(page, "2", second.version, None, PATIENCE)
            assert same is not None
            assert same.version > second.version, "a write of the same text is a write"
            found = await documents.read(page, PATIENCE)
            assert found is not None
            assert (found.text, found.version) == ("2", same.version)

        self.run(make, work)

    def test_deleting_needs_the_latest_version_and_versions_are_never_used_again(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("delete", "election")
            first = await documents.write(page, "1", 0, None, PATIENCE)
            assert first is not None
            second = await documents.write(page, "2", first.version, None, PATIENCE)
            assert second is not None
            assert not await documents.delete(page, first.version, PATIENCE)
            assert await documents.read(page, PATIENCE) is not None
            assert await documents.delete(page, second.version, PATIENCE)
            assert await documents.read(page, PATIENCE) is None
            assert not await documents.delete(page, second.version, PATIENCE)
            again = await documents.write(page, "3", 0, None, PATIENCE)
            assert again is not None
            assert again.version > second.version, "a late write by someone who knew the old one must fail"
            assert await documents.write(page, "late", second.version, None, PATIENCE) is None

        self.run(make, work)

    def test_names_and_kinds_do_not_meet(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            places = [Resource(name, kind) for name in ("a", "a:b", "a#1", "{a}", "a/b", " ", "ä/ñ\n", "x" * 512)
                      for kind in ("latch", "barrier", "stock")]  # fmt: skip
            for number, place in enumerate(places):
                assert await documents.write(place, str(number), 0, None, PATIENCE) is not None, place
            for number, place in enumerate(places):
                found = await documents.read(place, PATIENCE)
                assert found is not None, place
                assert found.text == str(number), place

        self.run(make, work)

    def test_texts_come_back_as_they_were_up_to_the_limit(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page, version = Resource("texts", "stock"), 0
            for text in ("", "\n", "quotes \"'\\ and \x01", "ä€\U0001f600", "a" * LIMIT, "ä" * (LIMIT // 2)):
                written = await documents.write(page, text, version, None, PATIENCE)
                assert written is not None
                assert written.text == text
                version = written.version
                found = await documents.read(page, PATIENCE)
                assert found is not None
                assert found.text == text
            for text in ("a" * (LIMIT + 1), "ä" * (LIMIT // 2) + "a"):
                with pytest.raises(Misuse, match=f"at most {LIMIT} bytes"):
                    await documents.write(page, text, version, None, PATIENCE)
            found = await documents.read(page, PATIENCE)
            assert found is not None
            assert found.version == version, "a refused text changes nothing"

        self.run(make, work)

    def test_concurrent_writers_lose_nothing(self) -> None:
        async def add(documents: Documents, page: Resource, times: int) -> None:
            for _ in range(times):
                while True:
                    found = await documents.read(page, PATIENCE)
                    text, version = ("0", 0) if found is None else (found.text, found.version)
                    if await documents.write(page, str(int(text) + 1), version, None, PATIENCE) is not None:
                        break

        async def main() -> None:
            page = Resource("sum", "stock")
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                await asyncio.gather(*(add(documents, page, 10) for documents in (threads, tasks, threads, tasks)))
                found = await tasks.read(page, PATIENCE)
                assert found is not None
                assert found.text == "40"

        asyncio.run(main())

    # -- time

    def test_the_stores_clock_goes_on_and_never_back(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("clock", "stock")
            first = await documents.write(page, "1", 0, None, PATIENCE)
            assert first is not None
            read = await documents.read(page, PATIENCE)
            await asyncio.sleep(0.05)
            second = await documents.write(page, "2", first.version, None, PATIENCE)
            assert read is not None
            assert second is not None
            assert first.server_time <= read.server_time <= second.server_time
            assert 0.03 < second.server_time - first.server_time < PATIENCE

        self.run(make, work)

    def test_nothing_is_forgotten_before_its_time(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            kept, brief = Resource("kept", "once"), Resource("brief", "once")
            assert await documents.write(kept, "kept", 0, None, PATIENCE) is not None
            start = time.monotonic()
            written = await documents.write(brief, "brief", 0, SOON, PATIENCE)
            assert written is not None
            found = await documents.read(brief, PATIENCE)
            assert found is not None or time.monotonic() - start >= SOON
            await asyncio.sleep(SOON / 2)
            again = await documents.write(brief, "brief", written.version, 60.0, PATIENCE)
            assert again is not None or time.monotonic() - start >= SOON
            if again is not None:
                await asyncio.sleep(SOON)
                assert await documents.read(brief, PATIENCE) is not None, "a write starts its time anew"
                forever = await documents.write(brief, "brief", again.version, None, PATIENCE)
                assert forever is not None
            await asyncio.sleep(0.05)
            assert await documents.read(kept, PATIENCE) is not None

        self.run(make, work)

    def test_what_a_store_has_forgotten_can_be_made_anew(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("lapsed", "once")
            written = await documents.write(page, "1", 0, 0.02, PATIENCE)
            assert written is not None
            await asyncio.sleep(0.1)
            found = await documents.read(page, PATIENCE)
            again = await documents.write(page, "2", 0 if found is None else found.version, None, PATIENCE)
            assert again is not None
            assert again.version > written.version

        self.run(make, work)

    # -- hints

    def test_a_change_is_hinted_at_once_also_before_the_wait_began(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("hint", "latch")
            watch = await documents.watch(page, PATIENCE)  # there is no document yet
            start = time.monotonic()
            first = await documents.write(page, "1", 0, None, PATIENCE)
            assert first is not None
            assert await watch.wait(PATIENCE), "made between the watch and the wait"
            waiting = asyncio.create_task(watch.wait(PATIENCE))
            await asyncio.sleep(0.05)
            second = await documents.write(page, "2", first.version, None, PATIENCE)
            assert second is not None
            assert await waiting
            third = await documents.write(page, "3", second.version, None, PATIENCE)
            assert third is not None
            found = await documents.read(page, PATIENCE)
            assert found is not None
            assert found.text == "3"
            assert await watch.wait(PATIENCE), "changed after the last wait, before the read"
            assert await documents.delete(page, third.version, PATIENCE)
            assert await watch.wait(PATIENCE), "deleted"
            assert time.monotonic() - start < PATIENCE
            await watch.close()

        self.run(make, work)

    def test_the_wait_ends_in_time_where_nothing_changes(self, make: str) -> None:
        async def work(documents: Documents) -> None:
            page = Resource("still", "latch")
            assert await documents.write(page, "1", 0, None, PATIENCE) is not None
            watch = await documents.watch(page, PATIENCE)
            other = await documents.watch(Resource("other", "latch"), PATIENCE)
            quiet = 0
            for _ in range(4):  # a hint may come for nothing, but not for ever
                start = time.monotonic()
                quiet += not await watch.wait(0.05)
                assert time.monotonic() - start < PATIENCE
            assert quiet
            assert await documents.write(page, "2", 0, None, PATIENCE) is None
            await watch.close()
            await other.close()

        self.run(make, work)

    def test_each_make_hints_at_the_changes_of_the_other(self) -> None:
        async def main() -> None:
            page = Resource("both", "election")
            async with self.opened("threads") as threads, self.opened("asyncio") as tasks:
                watches = [await threads.watch(page, PATIENCE), await tasks.watch(page, PATIENCE)]
                version = 0
                for writer in (threads, tasks):
                    written = await writer.write(page, "news", version, None, PATIENCE)
                    assert written is not None
                    version = written.version
                    for watch in watches:
                        assert await watch.wait(PATIENCE)
                for watch in watches:
                    await watch.close()

        asyncio.run(main())
