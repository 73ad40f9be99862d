"""Buckets in memory: exact under threads (RL-3), nothing below full is forgotten (RL-9), no call under the lock."""

from __future__ import annotations

import ast
import contextlib
import dis
import gc
import inspect
import os
import random
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited
from backstay.resilience import Rate, RateLimiter
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.decision import NO_ROOM
from backstay.testing.bytecode import switch_points


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads change as often as CPython can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def calls_under_the_lock(function: Any) -> list[str]:
    """Return the points at which CPython may change threads in the body of the function's `with` block.

    Instructions carry the lines that they come from; taking and leaving the lock carry that of the `with` itself.
    """
    assert isinstance(function, FunctionType)
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    assert len(blocks) == 1
    held = range(blocks[0].body[0].lineno + first - 1, (blocks[0].end_lineno or 0) + first)
    steps = [step for step in dis.get_instructions(function) if step.positions and step.positions.lineno in held]
    assert sum(step.opname.startswith("STORE_") for step in steps) >= 5, "the critical section was not found"
    return [f"{step.opname} in line {step.positions.lineno}" for step in switch_points(steps) if step.positions]


def test_the_critical_section_holds_no_call() -> None:
    buckets = MemoryBuckets(Rate.of("1/second"))
    assert calls_under_the_lock(buckets.charger()) == []
    assert calls_under_the_lock(buckets.charger_of_one()) == []


def test_the_reading_of_byte_code_finds_a_call_under_a_lock() -> None:
    lock = threading.Lock()

    def careless(tats: dict[str, int], key: str) -> int:
        with lock:
            now = time.monotonic_ns()
            tat = tats[key]
            later = tat + now
            latest = later + 1
            tats[key] = latest
            return latest

    assert len(calls_under_the_lock(careless)) > 0


@pytest.mark.parametrize("key", ["", "k"])
@pytest.mark.usefixtures("eager_threads")
def test_RL3_threads_never_admit_more_nor_less(key: str) -> None:
    """8 threads, a clock that stands: exactly the burst comes through."""
    rate = Rate(count=1, period=3600, burst=5_000)
    limiter = RateLimiter(MemoryBuckets(rate, clock_ns=lambda: 10**12), name=f"threads-{key}")
    admitted = [0] * 8

    def work(place: int) -> None:
        for _ in range(2_000):
            if limiter.try_acquire(key):
                admitted[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 5_000


@pytest.mark.usefixtures("eager_threads")
def test_RL3_new_keys_from_many_threads_lose_no_bucket() -> None:
    buckets = MemoryBuckets(Rate.of("1/hour"), clock_ns=lambda: 10**12)
    first = [0] * 8

    def work(place: int) -> None:
        for number in range(1_000):
            if buckets.charge(f"key-{number}", 1) > 0:
                first[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(first) == 1_000
    assert len(buckets) == 1_000


def test_RL9_rotating_keys_reset_nobody() -> None:
    """P4: after 1,100 other keys an exhausted key was fresh again elsewhere."""
    now_ns = 10**12
    buckets = MemoryBuckets(Rate.of("1/hour"), clock_ns=lambda: now_ns)
    assert buckets.charge("victim", 1) > 0
    for number in range(20_000):
        buckets.charge(f"noise-{number}", 1)
    assert buckets.charge("victim", 1) < 0


def test_RL9_only_full_buckets_are_forgotten_and_the_table_stays_small() -> None:
    now_ns = 10**12
    rate = Rate.of("100/second;burst=5")
    buckets = MemoryBuckets(rate, clock_ns=lambda: now_ns)
    for number in range(60_000):
        now_ns += 1_000_000  # a bucket is full again after 10 keys
        buckets.charge(f"key-{number}", 1)
    assert len(buckets) < 4_000


def test_RL9_eviction_changes_no_decision() -> None:
    """The same calls beside buckets that see no other keys, and so never evict."""
    now_ns = 10**12
    rate = Rate.of("1000/second;burst=3")
    crowded = MemoryBuckets(rate, clock_ns=lambda: now_ns)
    alone = {name: MemoryBuckets(rate, clock_ns=lambda: now_ns) for name in ("a", "b", "c")}
    chance = random.Random(7)
    noise = 0
    for _ in range(20_000):
        now_ns += chance.randrange(400_000)
        name = chance.choice("abc")
        assert crowded.charge(name, 1) == alone[name].charge(name, 1)
        for _ in range(3):
            noise += 1
            crowded.charge(f"noise-{noise}", 1)
    assert len(crowded) < 5_000


def test_RL9_at_the_bound_new_keys_are_refused_and_old_ones_kept() -> None:
    now_ns = 10**12
    buckets = MemoryBuckets(Rate.of("2/hour"), max_keys=100, clock_ns=lambda: now_ns)
    assert sum(buckets.charge(f"key-{number}", 1) > 0 for number in range(150)) == 100
    assert buckets.charge("key-149", 1) == NO_ROOM
    assert all(buckets.charge(f"key-{number}", 1) > 0 for number in range(100))
    assert buckets.charge("", 1) > 0
    limiter = RateLimiter(buckets, name="bounded")
    with pytest.raises(RateLimited, match="no room for another key") as refusal:
        limiter.acquire("key-149")
    assert refusal.value.retry_after == 1.0
    now_ns += 3600 * 10**9  # full again, so there is room
    assert buckets.charge("key-149", 1) > 0


def test_RL9_a_key_costs_little_memory() -> None:
    buckets = MemoryBuckets(Rate.of("1/hour"), clock_ns=lambda: 10**12)
    keys = [f"household:{number}" for number in range(50_000)]
    gc.collect()
    tracemalloc.start()
    for key in keys:
        buckets.charge(key, 1)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(keys) < 200  # beside the key itself, which the caller made


def test_a_forked_child_is_not_stuck_on_a_lock_that_a_thread_of_the_parent_held() -> None:
    buckets = MemoryBuckets(Rate.of("1/hour"), clock_ns=lambda: 10**12)
    assert buckets.charge("k", 1) > 0
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in (buckets._one.lock, *(part.lock for part in buckets._parts)):
                stack.enter_context(lock)
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    child = os.fork()
    if child == 0:
        fresh, spent = buckets.charge("other", 1) > 0, buckets.charge("k", 1) < 0
        os._exit(0 if fresh and spent else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_utilization_is_that_of_the_emptiest_bucket() -> None:
    now_ns = 10**12
    buckets = MemoryBuckets(Rate.of("10/second"), clock_ns=lambda: now_ns)
    assert buckets.utilization() == 0
    buckets.charge("a", 2)
    buckets.charge("b", 7)
    assert buckets.utilization() == pytest.approx(0.7)
    now_ns += 10**9
    assert buckets.utilization() == 0


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(Misuse, match="max_keys"):
        MemoryBuckets(Rate.of("1/second"), max_keys=0)
