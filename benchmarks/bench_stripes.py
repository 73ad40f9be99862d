"""What stripes are for: sixteen threads on one segmented lock, with 1 stripe (the floor) and with 4, 16 and 64 (G6).

Each thread takes the stripe of a key drawn at random, holds it for 5 ms, as a call to a database would, and gives it
back. With one stripe they queue for all of it; a ratio of 0.3 means that 3.3 times as much gets done. Targets are the
share of stripes that sixteen random keys leave idle, doubled for the cores that the threads share.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from functools import partial

import servers
from backstay.locks import Locks

from .harness import Case

THREADS = 16
HELD = 0.005  # the work under the lock; it sleeps, as a thread does that waits for a database


def cases() -> Iterator[Case]:
    with servers.running("redis") as addresses:
        yield from _on("Redis", addresses["redis"])
    yield from _on("memory", "memory://bench-stripes")


def _on(store: str, url: str) -> Iterator[Case]:
    with Locks.connect(url, namespace="bench-stripes") as locks:
        for stripes, target in ((4, 0.55), (16, 0.20), (64, 0.15)):
            yield Case(
                name=f"segmented lock on {store}, {stripes} stripes beside 1",
                floor=partial(_throughput, locks, 1),
                ours=partial(_throughput, locks, stripes),
                target=target,
                timed=True,
                batch_seconds=0.5,
            )


def _throughput(locks: Locks, stripes: int, n: int) -> float:
    """Return the seconds that sixteen threads take for `n` holds in all."""
    stock = locks.segmented(f"stock-{stripes}", segments=stripes, ttl=30, wait=60, renew=False)
    left = iter(range(n))  # next() on it is one step of the interpreter: no two threads get the same

    def work(seed: int) -> None:
        keys = random.Random(seed)
        for _ in left:
            with stock.lock(f"sku-{keys.randrange(100_000)}"):
                time.sleep(HELD)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
