"""`python -m benchmarks [AREA...]` measures every case of every `bench_<area>.py` and prints one table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from .harness import Outcome, measure

HERE = Path(__file__).parent
HEAD = (
    f"{'case':<52}{'floor':>10}{'ours':>10}{'ratio':>8}  {'quartiles':<13}{'target':>8}{'peer':>8}{'A/A':>7}  verdict"
)


def main() -> int:
    areas = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "areas", nargs="*", metavar="AREA", help=f"one of {', '.join(areas) or 'none yet'} (default: all)"
    )
    parser.add_argument("-k", default="", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--cpu", type=int, help="pin this process to one core: the steadiest ratio")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    parser.add_argument("--gate", action="store_true", help="exit 1 when a target is missed")
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.areas) - set(areas)):
        parser.error(f"no such area: {', '.join(unknown)}; there are {', '.join(areas)}")
    if wanted.cpu is not None:
        os.sched_setaffinity(0, {wanted.cpu})
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {wanted.rounds} rounds")
    outcomes: list[Outcome] = []
    for area in wanted.areas or areas:
        print(f"\n{area}\n{HEAD}")
        for outcome in _area(area, wanted.k, wanted.rounds):
            print(_row(outcome), flush=True)
            outcomes.append(outcome)
    if wanted.json:
        wanted.json.write_text(json.dumps([_record(outcome) for outcome in outcomes], indent=1) + "\n")
    noisy = sum(outcome.verdict == "noisy" for outcome in outcomes)
    missed = sum(outcome.verdict == "MISSED" for outcome in outcomes)
    print(f"\n{len(outcomes)} cases, {missed} missed, {noisy} not judged (A/A off by more than 0.01: a busy machine)")
    return 1 if wanted.gate and missed else 0


def _area(area: str, part: str, rounds: int) -> Iterator[Outcome]:
    for case in importlib.import_module(f"benchmarks.bench_{area}").cases():
        if part in case.name:
            yield measure(case, rounds)


def _row(outcome: Outcome) -> str:
    case, (low, high) = outcome.case, outcome.spread
    target = f"{case.target:.2f}" if case.target is not None else "-"
    peer = f"{outcome.peer_ratio:.2f}" if outcome.peer_ratio is not None else "-"
    return (
        f"{case.name:<52}{_time(outcome.floor):>10}{_time(outcome.ours):>10}{outcome.ratio:>8.2f}  "
        f"{f'{low:.2f}-{high:.2f}':<13}{target:>8}{peer:>8}{outcome.control:>7.2f}  {outcome.verdict}"
    )


def _time(seconds: float) -> str:
    for limit, unit, factor in ((1e-6, "ns", 1e9), (1e-3, "µs", 1e6), (1.0, "ms", 1e3)):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _record(outcome: Outcome) -> dict[str, object]:
    case = outcome.case
    return {
        "case": case.name,
        "floor_seconds": outcome.floor,
        "ours_seconds": outcome.ours,
        "ratio": outcome.ratio,
        "quartiles": outcome.spread,
        "target": case.target,
        "peer": case.peer_name if case.peer else None,
        "peer_ratio": outcome.peer_ratio,
        "peer_target": case.peer_target,
        "control": outcome.control,
        "verdict": outcome.verdict,
    }


if __name__ == "__main__":
    sys.exit(main())
