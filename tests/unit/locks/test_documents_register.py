"""The register settles every doubt: what a write that was not answered has become, read from the document."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.locks.backends.memory_documents import DocumentStore, MemoryDocuments
from backstay.locks.claims import Resource
from backstay.locks.documents import Document
from backstay.locks.register import REMEMBERED, Next, Register
from backstay.simulation import World

PAGE = Resource("x", "latch")


class Number:
    def load(self, body: Any) -> int:
        return int(body["n"])

    def dump(self, state: int) -> dict[str, Any]:
        return {"n": state}


class Scripted:
    """Documents whose next writes fare as a test says; a late one is carried out when the test says so."""

    def __init__(self, world: World) -> None:
        self.store = DocumentStore(lambda: world.time + 1000.0)
        self.host = world.host("client")
        self.inner = MemoryDocuments(self.host, self.store, "space")
        self.fates: list[str] = []
        self.late: list[Callable[[], Coroutine[Any, Any, Any]]] = []
        self.writes = self.writes_unanswered = 0
        self.meanwhile: Callable[[], Coroutine[Any, Any, Any]] | None = None  # happens after an unanswered write
        self.stale: float | None = None

    label = "scripted"
    patience = 1.0

    @property
    def documents(self) -> Any:
        return self

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        if self.writes_unanswered and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        found = await self.inner.read(resource, timeout)
        return found if found is None or self.stale is None else found._replace(server_time=self.stale)

    async def write(
        self, resource: Resource, text: str, version: int, ttl: float | None, timeout: float
    ) -> Document | None:
        self.writes += 1
        fate = self.fates.pop(0) if self.fates else "ok"
        self.writes_unanswered += fate in ("lose request", "lose reply", "late")
        if fate == "refuse":
            raise Unavailable("refused")
        if fate == "lose request":
            raise OutcomeUnknown("lost")
        if fate == "late":
            self.late.append(lambda: self.inner.write(resource, text, version, ttl, timeout))
            raise OutcomeUnknown("on its way")
        written = await self.inner.write(resource, text, version, ttl, timeout)
        if fate == "lose reply":
            raise OutcomeUnknown("lost")
        return written

    async def delete(self, resource: Resource, version: int, timeout: float) -> bool:
        return await self.inner.delete(resource, version, timeout)

    async def watch(self, resource: Resource, timeout: float) -> Any:
        return await self.inner.watch(resource, timeout)


class Bench:
    def __init__(self) -> None:
        self.world = World(1)
        self.documents = Scripted(self.world)
        self.register = Register(self.documents.host, self.documents, PAGE, Number(), None)
        self.other = Register(self.documents.host, _Plain(self.documents), PAGE, Number(), None)

    async def add(self, register: Register[int] | None = None, *, within: float = 5.0, again: bool = False) -> int:
        def step(state: int | None, now: float) -> Next[int, int]:
            following = (state or 0) + 1
            return Next(following, following)

        host = self.documents.host
        return await (register or self.register).change(step, host.now() + within, again=again)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = self.world.start(self.documents.host, work)
        self.world.run()
        return task.result()

    async def value(self) -> int:
        seen = await self.register.look(self.documents.host.now() + 5.0)
        return 0 if seen is None else seen.state


class _Plain:
    """The same store without what happens by plan."""

    label = "plain"
    patience = 1.0

    def __init__(self, scripted: Scripted) -> None:
        self.documents: Any = scripted.inner


@pytest.mark.parametrize("fate", ["ok", "refuse", "lose request", "lose reply", "late"])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_is_taken_once_whatever_becomes_of_its_write(fate: str, first: bool) -> None:
    bench = Bench()

    async def work() -> None:
        if not first:
            await bench.add()
        bench.documents.fates = [fate, fate]
        assert await bench.add() == 2 - first
        for copy in bench.documents.late:
            await copy()  # a late copy finds another version
        assert await bench.value() == 2 - first

    bench.run(work())


def test_a_lost_reply_is_found_by_its_mark_after_others_have_written() -> None:
    bench = Bench()

    async def others() -> None:
        for _ in range(REMEMBERED - 1):
            await bench.add(bench.other)

    async def work() -> None:
        await bench.add()
        bench.documents.fates = ["lose reply"]
        bench.documents.meanwhile = others
        assert await bench.add() == 2
        assert await bench.value() == REMEMBERED + 1
        assert bench.documents.writes == 2, "nothing was sent again"

    bench.run(work())


def test_a_lost_request_is_known_not_to_be_done_after_others_have_written() -> None:
    bench = Bench()

    async def others() -> None:
        for _ in range(REMEMBERED):
            await bench.add(bench.other)

    async def work() -> None:
        await bench.add()
        bench.documents.fates = ["lose request"]
        bench.documents.meanwhile = others
        assert await bench.add() == REMEMBERED + 2
        assert await bench.value() == REMEMBERED + 2

    bench.run(work())


@pytest.mark.parametrize("fate", ["lose request", "lose reply"])
def test_what_nobody_can_tell_any_more_is_unknown(fate: str) -> None:
    bench = Bench()

    async def others() -> None:
        for _ in range(REMEMBERED + 1):
            await bench.add(bench.other)

    async def work() -> None:
        await bench.add()
        bench.documents.fates = [fate]
        bench.documents.meanwhile = others
        with pytest.raises(OutcomeUnknown, match="too much has happened") as unknown:
            await bench.add()
        assert unknown.value.ask["resource"] == "latch 'x'"

    bench.run(work())


def test_a_document_that_was_made_anew_tells_nothing_of_the_one_before() -> None:
    bench = Bench()

    async def renewed() -> None:
        found = await bench.documents.inner.read(PAGE, 1.0)
        assert found is not None
        assert await bench.documents.delete(PAGE, found.version, 1.0)
        await bench.add(bench.other)

    async def work() -> None:
        await bench.add()
        bench.documents.fates = ["lose reply"]
        bench.documents.meanwhile = renewed
        with pytest.raises(OutcomeUnknown):
            await bench.add()

    bench.run(work())


def test_C2_time_that_is_up_ends_as_not_done_or_unknown_and_never_as_a_guess() -> None:
    bench = Bench()

    async def work() -> None:
        await bench.add()
        bench.documents.fates = ["refuse"] * 1000
        start = bench.documents.host.now()
        with pytest.raises(Unavailable):
            await bench.add(within=1.0)
        assert bench.documents.host.now() - start <= 1.001
        bench.documents.fates = ["lose request", *(["refuse"] * 1000)]
        with pytest.raises(OutcomeUnknown):
            await bench.add(within=1.0)
        bench.documents.fates = ["late", *(["refuse"] * 1000)]
        with pytest.raises(OutcomeUnknown):
            await bench.add(within=1.0)
        await bench.documents.late[0]()
        assert await bench.value() == 2, "it did arrive, after all"

    bench.run(work())


def test_a_clock_that_stood_still_has_the_step_taken_again() -> None:
    bench = Bench()
    clocks: list[float] = []

    def step(state: int | None, now: float) -> Next[int, float]:
        clocks.append(now)
        return Next(now, (state or 0) + 1, timed=True)

    async def work() -> float:
        await bench.add()
        bench.documents.stale = 400.0  # told with the latest write, ten minutes ago
        told: float = await bench.register.change(step, bench.documents.host.now() + 5.0, again=True)
        return told

    assert bench.run(work()) >= 1000.0
    assert clocks[0] == 400.0
    assert len(clocks) == 2


@pytest.mark.parametrize("text", ["", "7", "{}", '{"v":1}', '{"v":2,"born":"","writes":1,"marks":[],"state":{"n":1}}'])
def test_a_document_of_another_hand_or_format_is_refused(text: str) -> None:
    bench = Bench()

    async def work() -> None:
        await bench.documents.inner.write(PAGE, text, 0, None, 1.0)
        with pytest.raises(Misuse, match="latch 'x'"):
            await bench.add()
        found = await bench.documents.inner.read(PAGE, 1.0)
        assert found is not None
        assert found.text == text

    bench.run(work())


def test_a_store_without_documents_is_refused_by_name() -> None:
    class Without:
        label, patience, documents = "advisory://", 1.0, None

    with pytest.raises(Misuse, match="advisory:// keeps no documents, so it has no latch"):
        Register(World(1).host("c"), Without(), PAGE, Number(), None)
