"""Stock as a value: nothing is lost or made by any history; and one consistent look before it is called empty."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import NotAcquired
from backstay.locks.backends.memory import MemoryBackend, MemoryStore
from backstay.locks.claims import Resource
from backstay.locks.documents import Document
from backstay.locks.leases.keeper import Keeper
from backstay.locks.leases.protocol import LeaseProtocol
from backstay.locks.owners import Owners
from backstay.locks.recipes.stocking import StockProtocol
from backstay.locks.states.stock import SegmentForm, SegmentState, add, commit, extend, fill, give_back, share, take
from backstay.locks.telemetry import Meters
from backstay.simulation import World

marks = st.sampled_from("abcd")
moves = st.lists(
    st.one_of(
        st.tuples(st.just("take"), marks, st.integers(1, 5)),
        st.tuples(st.just("commit"), marks, st.just(0)),
        st.tuples(st.just("give back"), marks, st.just(0)),
        st.tuples(st.just("extend"), marks, st.integers(1, 9)),
        st.tuples(st.just("add"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 6)),
    ),
    max_size=40,
)


@given(moves, st.integers(0, 12))
def test_G5_the_sum_is_conserved_by_every_history(history: list[tuple[str, str, int]], total: int) -> None:
    state, now, sold, added = SegmentState(segments=1, filled=total, total=total), 0.0, 0, 0
    held: dict[str, tuple[int, float]] = {}
    for move, mark, number in history:
        held = {each: part for each, part in held.items() if part[1] > now}
        following: Any
        if move == "wait":
            now += number
            continue
        if move == "take":
            following = take(state, mark, 1, number, 5.0, now)
            if following.answer:
                assert following.answer <= number or mark in held
                held[mark] = (following.answer, now + 5.0)
        elif move == "commit":
            following = commit(state, mark, now)
            if mark in held:
                assert following.answer
                sold += held.pop(mark)[0]
        elif move == "give back":
            following = give_back(state, mark, now)
            held.pop(mark, None)
        elif move == "extend":
            following = extend(state, mark, float(number), now)
            assert following.answer == (mark in held)
            if mark in held:
                held[mark] = (held[mark][0], max(held[mark][1], now + number))
        else:
            following, added = add(state, number), added + number
        state = following.state or state
        state = SegmentForm().load(SegmentForm().dump(state))
        here = state.at(now)
        assert here.total == total + added == here.free + here.taken + here.sold
        assert here.free >= 0
        assert (here.sold, here.taken) == (sold, sum(part[0] for part in held.values()))


@given(st.integers(0, 10**6), st.integers(1, 64))
def test_the_shares_make_the_total_and_differ_by_one(total: int, segments: int) -> None:
    shares = [share(total, segments, number) for number in range(segments)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_a_commit_that_is_sent_twice_sells_once_and_one_after_the_end_sells_nothing() -> None:
    state = fill(None, "x", 1, 5, 0).state
    assert state is not None
    held = take(state, "a", 1, 3, 5.0, 10.0).state
    assert held is not None
    sold = commit(held, "a", 12.0)
    assert (sold.answer, sold.state.sold if sold.state else None) == (True, 3)
    assert sold.state is not None
    again = commit(sold.state, "a", 13.0)
    assert (again.answer, again.state) == (True, None)
    late = commit(held, "a", 15.0)
    assert (late.answer, late.state) == (False, None)


class Moving:
    """Documents of a stock of one unit that is always somewhere: it moves whenever somebody has read a segment."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.reads, self.resting = inner, 0, False

    async def read(self, resource: Resource, timeout: float) -> Document | None:
        found: Document | None = await self.inner.read(resource, timeout)
        self.reads += 1
        if not self.resting and found is not None and self.reads < 40:
            await self._move(away_from=resource)
            found = await self.inner.read(resource, timeout)
        return found

    async def _move(self, away_from: Resource) -> None:
        """Put the unit where the reader has just been, or is not yet: never where it looks."""
        home = Resource(f"x#{1 - int(away_from.name[-1])}", "stock")
        for resource, total in ((home, 1), (away_from, 0)):
            found = await self.inner.read(resource, 1.0)
            text = found.text.replace('"total":0', f'"total":{total}').replace('"total":1', f'"total":{total}')
            if text != found.text:
                await self.inner.write(resource, text, found.version, None, 1.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_G5_empty_is_only_said_after_a_consistent_look() -> None:
    world = World(1)
    host = world.host("client")
    backend = MemoryBackend(host, MemoryStore(lambda: world.time, 1), "space")
    protocol = LeaseProtocol(host, backend, Keeper(host), Owners("c"), Meters("memory", "space"))
    moving = Moving(backend.documents)

    async def work() -> int:
        await StockProtocol(protocol, "x", 2).fill(1)
        backend.documents = moving  # type: ignore[assignment] # one instance, whose reader is always too late
        hold = await StockProtocol(protocol, "x", 2).take(1, 5.0, 0.0)
        return sum(hold.parts.values())

    task = world.start(host, work())
    world.run()
    assert task.result() == 1, "there was one at every moment"
    assert moving.reads >= 40, "it looked again and again, as long as the unit moved away from it"


def test_G5_what_has_ended_is_seen_where_a_store_tells_its_clock_only_with_writes() -> None:
    world = World(1)
    host = world.host("client")
    backend = MemoryBackend(host, MemoryStore(lambda: world.time, 1), "space")
    protocol = LeaseProtocol(host, backend, Keeper(host), Owners("c"), Meters("memory", "space"))
    inner, times = backend.documents, dict[int, float]()

    class Stale:
        async def read(self, resource: Resource, timeout: float) -> Document | None:
            found = await inner.read(resource, timeout)
            return None if found is None else found._replace(server_time=times[found.version])

        async def write(self, *arguments: Any) -> Document | None:
            written = await inner.write(*arguments)
            if written is not None:
                times[written.version] = written.server_time
            return written

    backend.documents = Stale()  # type: ignore[assignment] # as ZooKeeper tells its time

    async def work() -> None:
        stock = StockProtocol(protocol, "x", 2)
        await stock.fill(2)
        await stock.take(2, 5.0, 0.0)  # and its process dies
        await host.sleep(3.0)
        with pytest.raises(NotAcquired):
            await stock.take(1, 5.0, 0.0)
        await host.sleep(3.0)
        assert (await stock.take(2, 5.0, 0.0)).parts

    task = world.start(host, work())
    world.run()
    task.result()
