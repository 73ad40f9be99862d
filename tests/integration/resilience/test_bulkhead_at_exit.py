"""A process with a worker that never ends still ends."""

from __future__ import annotations

import subprocess
import sys
import time

SCRIPT = """
import threading, time
from backstay.resilience.bulkhead import ThreadPool

pool, finished = ThreadPool("hung", core=1, max=2, queue=1), ThreadPool("finished", core=1, max=1, queue=1)
begun = threading.Event()
pool.submit(lambda: (begun.set(), time.sleep(600)))
begun.wait()
finished.submit(lambda: (time.sleep(0.3), print("finished", flush=True)))
print("leaving", flush=True)
"""


def test_BH4_a_process_waits_for_running_calls_within_a_bound_and_leaves() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["leaving", "finished"]
    assert time.monotonic() - began < 20
