"""What leaves a process that locks through a real OpenTelemetry SDK; in its own process: providers are set once."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, threading
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from backstay.locks import Locks

reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
metrics.set_meter_provider(MeterProvider([reader]))
traces = TracerProvider()
traces.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(traces)

locks = Locks.connect("memory://", namespace="shop")
lease = locks.semaphore("secret-name", permits=1).acquire()
waits = threading.Thread(target=lambda: locks.semaphore("secret-name", permits=1, wait=30).acquire().release())
waits.start()
while not locks.inspect("secret-name", kind="semaphore").waiters:
    assert waits.is_alive()
lease.release()
waits.join(30)
lost = locks.mutex("secret-name", ttl=0.02, renew=False).acquire()
assert lost.lost.wait(30)

counts = {}
for resource in json.loads(reader.get_metrics_data().to_json())["resource_metrics"]:
    for scope in resource["scope_metrics"]:
        for metric in scope["metrics"]:
            for point in metric["data"]["data_points"]:
                if point.get("value"):
                    labels = sorted((key.removeprefix("backstay."), word) for key, word in point["attributes"].items())
                    counts.setdefault(metric["name"], []).append([labels, point["value"]])
print(json.dumps([counts, [[span.name, dict(span.attributes)] for span in spans.get_finished_spans()]]))
"""


def test_counts_by_recipe_and_a_span_for_each_wait_reach_the_sdk() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    counts, spans = json.loads(ended.stdout)

    permits = [["backend", "memory"], ["recipe", "semaphore"], ["resource", "shop"]]
    assert counts["backstay.lock.contentions"] == [[permits, 1]]
    mutex = [["backend", "memory"], ["reason", "expired"], ["recipe", "lock"], ["resource", "shop"]]
    assert counts["backstay.lock.losses"] == [[mutex, 1]]
    assert [permits, 2] in counts["backstay.lock.wait.duration_seconds_count"]
    assert [permits, 2] in counts["backstay.lock.hold.duration_seconds_count"]
    assert spans == [["backstay.lock.wait", {"backstay.backend": "memory", "backstay.recipe": "semaphore"}]]
    assert "secret-name" not in ended.stdout
