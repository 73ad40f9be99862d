"""Any history of reads, changes, outages and waits, in two processes: no tier ever says more than it knows (DG-6).

The model keeps every version of every product and when the database was asked for it. Against it: an answer is a
version that was there at the moment its age points to, it is younger than its tier allows, what was forgotten stays
forgotten, a healthy origin is not passed over for an answer that is not fresh, a level is obeyed, and results add up
to reads.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.errors import BreakerOpen, Degraded, Unavailable
from backstay.resilience.read_chain import WORDS, Answer, LocalTier, ReadChain
from backstay.testing import ManualClock, Measured
from unit.resilience.lua_read_cache import LuaServer
from unit.resilience.read_chains import called, on_lua

FRESH, STALE, LOCAL_FRESH, LOCAL_STALE, ABSENT_FOR = 10.0, 60.0, 3.0, 40.0, 5.0
PRODUCTS = st.integers(0, 2)
PROCESSES = st.integers(0, 1)
COLOURS = st.sampled_from(["def", "async def"])
EPSILON = 1e-5


class Reads(RuleBasedStateMachine):
    """Two processes, one Redis, one database."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.server = LuaServer(self.clock)
        self.down = False
        self.word = "origin"
        self.versions: dict[int, list[tuple[float, Any]]] = {each: [(-1.0, f"{each}.0")] for each in range(3)}
        self.forgotten: dict[tuple[int, int], float] = {}
        self.asked = self.count = 0
        self.chains: list[ReadChain] = []
        for _ in range(2):
            chain, _ = on_lua(
                self.clock, "machine", server=self.server, fresh=FRESH, max_stale=STALE, absent_for=ABSENT_FOR,
                local=LocalTier(fresh=LOCAL_FRESH, max_stale=LOCAL_STALE, max_entries=2, max_absent=1),
                tier={"refill_lease": 1.0}, uniform=lambda low, high: high, reach=lambda: self.word,
            )  # fmt: skip
            self.chains.append(chain)
        self.reads = [
            {"def": chain.answers(self._origin), "async def": chain.answers(self._origin_async)}
            for chain in self.chains
        ]
        self.counts = Measured()

    def _origin(self, product_id: int) -> Any:
        self.asked += 1
        if self.down:
            raise Unavailable("down")
        return self.versions[product_id][-1][1]

    async def _origin_async(self, product_id: int) -> Any:
        return self._origin(product_id)

    @rule(product_id=PRODUCTS, process=PROCESSES, colour=COLOURS)
    def read(self, product_id: int, process: int, colour: str) -> None:
        now, asked = self.clock(), self.asked
        self.count += 1
        try:
            answer: Answer[Any] = called(self.reads[process][colour], product_id)
        except Unavailable:
            assert self.down and self.asked == asked + 1 and self.word == "origin"
            return
        except Degraded:
            assert self.word != "origin" and self.asked == asked
            return
        assert answer.age is not None
        assert self.word == "origin" or self.asked == asked, "a level keeps reads from the database"
        assert answer.source in WORDS[WORDS.index(self.word) :], "and from all that is above it"
        assert answer.source in ("origin", "distributed_cache", "local_cache")
        moment = now - answer.age
        fresh, stale = (FRESH, STALE) if answer.source == "distributed_cache" else (LOCAL_FRESH, LOCAL_STALE)
        if answer.absent:
            fresh, stale = min(fresh, ABSENT_FOR), min(stale, ABSENT_FOR)
        if answer.source == "origin":
            assert self.asked == asked + 1 and answer.age == 0 and not self.down
        else:
            assert answer.age < stale
        assert self._there_at(product_id, moment, answer.value), (answer, self.versions[product_id], now)
        assert answer.absent == (answer.value is None)
        if answer.stale:
            assert answer.age >= fresh * (0.9 if answer.source == "local_cache" else 1) - EPSILON
            assert self.down or self.asked == asked, "an origin that answered is what is served"
        else:
            assert answer.age < fresh + EPSILON
        forgotten = self.forgotten.get((process, product_id))
        if forgotten is not None:
            assert moment >= forgotten - EPSILON, "what was forgotten here came back"

    def _there_at(self, product_id: int, moment: float, value: Any) -> bool:
        history = self.versions[product_id]
        for index, (since, version) in enumerate(history):
            until = history[index + 1][0] if index + 1 < len(history) else float("inf")
            if version == value and since - EPSILON <= moment <= until + EPSILON:
                return True
        return False

    @rule(product_id=PRODUCTS, gone=st.booleans())
    def change(self, product_id: int, gone: bool) -> None:
        self.clock.advance(0.001)
        history = self.versions[product_id]
        history.append((self.clock(), None if gone else f"{product_id}.{len(history)}"))
        self.clock.advance(0.001)

    @rule(product_id=PRODUCTS, process=PROCESSES)
    def forget(self, product_id: int, process: int) -> None:
        self.clock.advance(0.001)
        try:
            self.chains[process].forget(f"product:{product_id}")
        except (Unavailable, BreakerOpen):
            assert self.server.down or self.chains[process].breaker is not None
        self.forgotten[process, product_id] = self.clock()
        self.clock.advance(0.001)

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.9, 5.0, 11.0, 39.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(word=st.sampled_from(["origin", "origin", *WORDS]))
    def level(self, word: str) -> None:
        self.word = word

    @rule(down=st.booleans())
    def the_database(self, down: bool) -> None:
        self.down = down

    @rule(down=st.booleans())
    def the_cache(self, down: bool) -> None:
        self.server.down = down

    @rule()
    def flush(self) -> None:
        self.server.entries.clear()

    @rule(product_id=PRODUCTS, data=st.sampled_from([b"", b"poison", b"1 5 v 00000000 x", b"2 5 v 00000000 {}"]))
    def poison(self, product_id: int, data: bytes) -> None:
        self.server.entries[b"backstay:default:read:1:{machine:product:%d}" % product_id] = (data, 2**62)

    @invariant()
    def nothing_is_under_way(self) -> None:
        assert all(len(chain.chain.flights) == 0 for chain in getattr(self, "chains", ()))

    def teardown(self) -> None:
        if hasattr(self, "counts"):  # once a run: it reads every series that the process has
            assert self.counts.count("read.results", resource="machine") == self.count


TestReads = Reads.TestCase
TestReads.settings = settings(max_examples=60, stateful_step_count=40)
