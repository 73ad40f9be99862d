"""Real forks beside running threads: the child counts from zero and hangs on nothing."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, os, threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads, which is what this is about
from backstay import telemetry
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

calls = telemetry.counter("calls", "{call}", resource="a")
took = telemetry.histogram("took", "s")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
stop = threading.Event()

def work():
    while not stop.is_set():
        calls.n += 1
        took.record(0.001)
        telemetry.counter("made", "{call}", resource=str(calls.n % 50)).n += 1
        telemetry.snapshot()

def exported():
    for resource in reader.get_metrics_data().resource_metrics:
        for metric in resource.scope_metrics[0].metrics:
            if metric.name == "backstay.calls":
                return metric.data.data_points[0].value

threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
    telemetry.announce("backstay-worker", thread.is_alive)
while calls.n < 1000:
    pass
children = []
for _ in range(20):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        begun = telemetry.snapshot().value("calls") + telemetry.snapshot().value("took")
        calls.n += 3
        took.record(0.5)
        fresh = telemetry.counter("fresh", "{call}")  # takes the registry's lock
        fresh.n += 1
        listed = len(telemetry.background())
        os.write(write, json.dumps([begun, telemetry.snapshot().value("calls"), exported(), listed,
            telemetry.snapshot().value("took")]).encode())
        os._exit(0)
    os.close(write)
    children.append((pid, read))
answers = []
for pid, read in children:
    with os.fdopen(read) as stream:
        answers.append(json.loads(stream.read()))
    os.waitpid(pid, 0)
stop.set()
for thread in threads:
    thread.join()
listed = len(telemetry.background())
print(json.dumps({"answers": answers, "parent": telemetry.snapshot().value("calls"), "listed": listed}))
"""


def test_a_forked_child_starts_at_zero_beside_busy_threads_and_never_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["answers"] == [[0, 3, 3, 0, 1]] * 20
    assert found["parent"] >= 1000
    assert found["listed"] == 4


HELD = """
import os, signal, threading, warnings
warnings.simplefilter("ignore")
from backstay import telemetry
from backstay.telemetry import _registry, daemons
from backstay.telemetry.counters import ThreadCounter

counter = ThreadCounter()
held, stop = threading.Event(), threading.Event()

def hold():
    with _registry._lock, daemons._guard.lock, counter._folding:
        held.set()
        stop.wait()

thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(10)
    telemetry.counter("calls", "{call}").n += 1
    telemetry.announce("backstay-child", lambda: True)
    counter.zero()
    counter.n += 1
    os._exit(0 if counter.total == 1 else 3)
stop.set()
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_lock_held_by_a_thread_of_the_parent_does_not_stop_the_child() -> None:
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, f"killed by signal {-ended.returncode}" if ended.returncode < 0 else ended.stderr
