"""Measures a case beside its floor without favouring either.

Timing the floor first in every round, after a collection, flatters the case by 3 to 6 %: the floor pays for the cold
caches. So each round runs floor, case, floor, and the next round the same backwards; each side is warmed after the
collection; and the two floors of a round give the A/A row, which must read 1.00 within 0.01 or the machine was too
noisy to judge. A ratio is the median over rounds of case / mean of the two floors beside it, so that a drift within a
round cancels.

A module `bench_<area>.py` offers `cases()`, a generator of `Case`. It may start servers before a yield and stop them
after it: the case is measured between.

    def cases() -> Iterator[Case]:
        with servers.running("redis") as addresses:
            ...
            yield Case(name="lock, acquire and release", floor=two_evalsha, ours=lock_once, target=1.10)
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

Call = Callable[[], object]
Timed = Callable[[int], float]
"""Does its work so many times and returns the seconds it took: for cases with threads, queues or their own loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What to measure beside what.

    `floor`, `ours` and `peer` are plain callables, or coroutine functions (all of them; they are awaited in one loop),
    or, with `timed=True`, callables that take a count and return seconds. `target` is the highest ratio that passes;
    None only reports. `clock="cpu"` counts this process's CPU time alone, the steadier choice where no server works.
    """

    name: str
    floor: Callable[..., Any]
    ours: Callable[..., Any]
    target: float | None = None
    peer: Callable[..., Any] | None = None
    peer_name: str = "peer"
    peer_target: float | None = None
    timed: bool = False
    clock: Literal["wall", "cpu"] = "wall"
    batch_seconds: float = 0.02

    def __post_init__(self) -> None:
        for side in (self.floor, self.ours, self.peer):
            if side is not None and inspect.iscoroutinefunction(side) != self.asynchronous:
                raise ValueError(f"{self.name}: floor, ours and peer must be of one colour")
        if self.timed and self.asynchronous:
            raise ValueError(f"{self.name}: a timed side runs its own loop; make it a plain function")
        if self.batch_seconds <= 0:
            raise ValueError(f"{self.name}: batch_seconds must be > 0, got {self.batch_seconds}")

    @property
    def asynchronous(self) -> bool:
        return inspect.iscoroutinefunction(self.floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case came to; times are seconds per call, ratios are medians over the rounds."""

    case: Case
    floor: float
    ours: float
    ratio: float
    spread: tuple[float, float]
    control: float
    peer_ratio: float | None

    @property
    def verdict(self) -> str:
        if abs(self.control - 1) > 0.01:
            return "noisy"
        missed = self.case.target is not None and self.ratio > self.case.target
        return "MISSED" if missed or self._behind_peer else "met" if self._judged else "-"

    @property
    def _judged(self) -> bool:
        return self.case.target is not None or self.case.peer_target is not None

    @property
    def _behind_peer(self) -> bool:
        wanted = self.case.peer_target
        return wanted is not None and self.peer_ratio is not None and self.peer_ratio > wanted


def measure(case: Case, rounds: int = 21) -> Outcome:
    """Measure one case over so many rounds (at least 3); takes about 4 x rounds x batch_seconds."""
    if rounds < 3:
        raise ValueError(f"rounds must be >= 3, got {rounds}")
    if case.asynchronous:
        with asyncio.Runner() as runner:
            return _measure(case, rounds, lambda side: _in_loop(runner, side, _clock(case)))
    return _measure(case, rounds, lambda side: side if case.timed else _loop(side, _clock(case)))


def _measure(case: Case, rounds: int, prepare: Callable[[Callable[..., Any]], Timed]) -> Outcome:
    floor, ours = prepare(case.floor), prepare(case.ours)
    peer = prepare(case.peer) if case.peer is not None else None
    n = calls_per_batch(floor, case.batch_seconds)
    floors, cases, ratios, controls, peers = [], [], [], [], []
    for turn in range(rounds):
        line: list[tuple[str, Timed]] = [("before", floor), ("ours", ours), ("after", floor)]
        if peer is not None:
            line.insert(2 - turn // 2 % 2, ("peer", peer))
        if turn % 2:
            line.reverse()
        took = {label: _batch(side, n) for label, side in line}
        beside = (took["before"] + took["after"]) / 2
        floors.append(beside)
        cases.append(took["ours"])
        ratios.append(took["ours"] / beside)
        controls.append(took["after"] / took["before"])
        if peer is not None:
            peers.append(took["ours"] / took["peer"])
    low, _, high = statistics.quantiles(ratios, n=4)
    return Outcome(
        case=case,
        floor=statistics.median(floors) / n,
        ours=statistics.median(cases) / n,
        ratio=statistics.median(ratios),
        spread=(low, high),
        control=statistics.median(controls),
        peer_ratio=statistics.median(peers) if peers else None,
    )


def calls_per_batch(floor: Timed, seconds: float) -> int:
    """How many calls of the floor fill a batch."""
    n = 1
    while (took := floor(n)) < seconds / 4:
        n *= 2 if took > seconds / 64 else 8
    return max(1, round(n * seconds / took))


def _batch(side: Timed, n: int) -> float:
    gc.collect()
    gc.disable()
    try:
        side(max(1, n // 8))
        return side(n)
    finally:
        gc.enable()


def _clock(case: Case) -> Callable[[], float]:
    return time.process_time if case.clock == "cpu" else time.perf_counter


def _loop(call: Call, clock: Callable[[], float]) -> Timed:
    def run(n: int) -> float:
        start = clock()
        for _ in repeat(None, n):
            call()
        return clock() - start

    return run


def _in_loop(
    runner: asyncio.Runner, call: Callable[[], Coroutine[Any, Any, object]], clock: Callable[[], float]
) -> Timed:
    async def run(n: int) -> float:
        start = clock()
        for _ in repeat(None, n):
            await call()
        return clock() - start

    return lambda n: runner.run(run(n))
