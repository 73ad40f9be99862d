"""`python -m benchmarks.pains` makes the same trouble for peers and for Backstay, and prints who shows the fault."""

from __future__ import annotations

import logging
import sys
import threading
from importlib.metadata import version

import servers

from . import on_redis, on_zookeeper


def main() -> int:
    ours_failed = 0
    logging.disable(logging.CRITICAL)  # trouble is what this is made of
    threading.excepthook = lambda _: None  # a peer's thread that dies is part of what is seen
    print(f"{'pain':<53}{'peer':<28}{'peer shows it':<16}{'Backstay':<10}")
    with servers.running("redis", "zookeeper") as addresses:
        for pain in (*on_redis.pains(addresses["redis"]), *on_zookeeper.pains(addresses["zookeeper"])):
            theirs, ours = pain.theirs(), pain.ours()
            ours_failed += ours.fault
            peer = f"{pain.peer} {version(pain.peer)}"
            shows, passes = "yes" if theirs.fault else "no", "FAILS" if ours.fault else "passes"
            print(f"{pain.number:>2}  {pain.what:<49}{peer:<28}{shows:<16}{passes:<10}", flush=True)
            print(f"    peer: {theirs.seen}\n    ours: {ours.seen}", flush=True)
    return 1 if ours_failed else 0


if __name__ == "__main__":
    sys.exit(main())
