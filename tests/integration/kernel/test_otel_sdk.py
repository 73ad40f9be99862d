"""What leaves through a real OpenTelemetry SDK. Each test has a process of its own: providers are set once."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

PRELUDE = """
import json, sys
from backstay import telemetry
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider, Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality, InMemoryMetricReader, MetricExporter, MetricExportResult, PeriodicExportingMetricReader,
)

class Sink(MetricExporter):
    '''Keeps what it is given.'''
    def __init__(self, **options):
        super().__init__(**options)
        self.seen, self.closed = [], 0
    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.seen.append(json.loads(metrics_data.to_json()))
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=10_000):
        return True
    def shutdown(self, timeout_millis=30_000, **kwargs):
        self.closed += 1

def points(data):
    found = {}
    for resource in data["resource_metrics"]:
        for scope in resource["scope_metrics"]:
            for metric in scope["metrics"]:
                for point in metric["data"]["data_points"]:
                    more = {"unit": metric["unit"], "kind": sorted(metric["data"]), "scope": scope["scope"]["name"]}
                    found.setdefault(metric["name"], []).append({**point, **more})
    return found

def numbers(data, name):
    return {json.dumps(p["attributes"], sort_keys=True): p["value"] for p in points(data).get(name, [])}
"""


def run(code: str) -> Any:
    """Run `code` after the prelude; return what it hands to `answer`."""
    source = PRELUDE + "\ndef answer(value): print('ANSWER' + json.dumps(value))\n" + textwrap.dedent(code)
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("ANSWER")]
    return json.loads(line.removeprefix("ANSWER"))


def test_OT2_instruments_made_before_any_provider_are_exported_once_there_is_one() -> None:
    found = run("""
        before = telemetry.counter("calls", "{call}", resource="a", result="ok")
        before.n += 3
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        after = telemetry.counter("later", "{call}", resource="a")
        after.n += 1
        before.n += 1
        data = json.loads(reader.get_metrics_data().to_json())
        answer([points(data)["backstay.calls"], points(data)["backstay.later"]])
    """)
    ((calls,), (later,)) = found
    assert (calls["value"], calls["unit"], calls["scope"]) == (4, "{call}", "backstay")
    assert calls["attributes"] == {"backstay.resource": "a", "backstay.result": "ok"}
    assert later["value"] == 1


def test_every_kind_of_instrument_arrives_as_what_it_is() -> None:
    found = run("""
        telemetry.counter("calls", "{call}").n += 2
        active = telemetry.updown("active", "{call}")
        active.n += 3
        active.n -= 1
        telemetry.gauge("state", "1", lambda: 0.5)
        telemetry.level("usage", "{permit}", lambda: 7)
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        telemetry.export_to(provider)
        data = json.loads(reader.get_metrics_data().to_json())
        monotonic = {}
        for metric in data["resource_metrics"][0]["scope_metrics"][0]["metrics"]:
            monotonic[metric["name"]] = [metric["data"].get("is_monotonic"), metric["data"]["data_points"][0]["value"]]
        answer(monotonic)
    """)
    assert found["backstay.calls"] == [True, 2]
    assert found["backstay.active"] == [False, 2]
    assert found["backstay.state"] == [None, 0.5]
    assert found["backstay.usage"] == [False, 7]


def test_a_raising_callback_does_not_stop_the_export_of_the_others() -> None:
    found = run("""
        def broken(): raise LookupError("x")
        telemetry.gauge("state", "1", broken, resource="bad")
        telemetry.gauge("state", "1", lambda: 1, resource="good")
        telemetry.counter("calls", "{call}").n += 2
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        data = json.loads(reader.get_metrics_data().to_json())
        answer([numbers(data, "backstay.state"), numbers(data, "backstay.calls")])
    """)
    assert found == [{'{"backstay.resource": "good"}': 1.0}, {"{}": 2}]


def test_without_a_wrapped_exporter_histograms_leave_as_the_series_prometheus_reads() -> None:
    found = run("""
        took = telemetry.histogram("wait.duration", "s", bounds=(0.1, 1.0), resource="a")
        for seconds in (0.05, 0.1, 0.5, 3.0):
            took.record(seconds)
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        data = json.loads(reader.get_metrics_data().to_json())
        base = "backstay.wait.duration_seconds"
        buckets = {p["attributes"]["le"]: p["value"] for p in points(data)[base + "_bucket"]}
        answer([buckets, numbers(data, base + "_sum"), numbers(data, base + "_count"),
                points(data)[base + "_bucket"][0]["kind"]])
    """)
    buckets, total, count, kind = found
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert list(total.values()) == [3.65]
    assert list(count.values()) == [4]
    assert "is_monotonic" in kind


def test_a_wrapped_exporter_carries_true_histograms_and_silences_the_stand_ins() -> None:
    found = run("""
        took = telemetry.histogram("wait.duration", "s", bounds=(0.1, 1.0), resource="a")
        telemetry.counter("calls", "{call}").n += 2
        took.record(0.05)
        sink = Sink()
        reader = PeriodicExportingMetricReader(telemetry.with_histograms(sink), export_interval_millis=3_600_000)
        provider = MeterProvider([reader])
        metrics.set_meter_provider(provider)
        provider.get_meter("theirs").create_counter("foreign").add(1)
        reader.force_flush()
        took.record(2.0)
        reader.force_flush()
        provider.shutdown()
        answer([[points(data) for data in sink.seen], sink.closed])
    """)
    exports, closed = found
    assert closed == 1
    first, second = exports[0], exports[1]
    (point,) = first["backstay.wait.duration"]
    assert point["bucket_counts"] == [1, 0, 0]
    assert (point["count"], point["sum"], point["explicit_bounds"]) == (1, 0.05, [0.1, 1.0])
    assert point["attributes"] == {"backstay.resource": "a"}
    assert (point["unit"], point["scope"]) == ("s", "backstay")
    (again,) = second["backstay.wait.duration"]
    assert again["bucket_counts"] == [1, 0, 1]
    assert again["start_time_unix_nano"] == point["start_time_unix_nano"] < again["time_unix_nano"]
    assert not any("_bucket" in name or "_sum" in name for name in first)
    assert first["backstay.calls"][0]["value"] == 2
    assert first["foreign"][0]["scope"] == "theirs"


def test_stand_ins_speak_again_when_the_wrapped_exporter_is_shut_down() -> None:
    found = run("""
        telemetry.histogram("wait.duration", "s").record(0.05)
        wrapped = telemetry.with_histograms(Sink())
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        silent = points(json.loads(reader.get_metrics_data().to_json()))
        wrapped.shutdown()
        speaking = points(json.loads(reader.get_metrics_data().to_json()))
        answer([sorted(silent), sorted(speaking)])
    """)
    silent, speaking = found
    assert not any("wait.duration" in name for name in silent)
    assert {"backstay.wait.duration_seconds_count", "backstay.wait.duration_seconds_sum"} <= set(speaking)


def test_delta_exporters_get_what_was_added_since_the_last_export() -> None:
    found = run("""
        took = telemetry.histogram("wait.duration", "s", bounds=(0.1, 1.0))
        sink = Sink(preferred_temporality={Histogram: AggregationTemporality.DELTA})
        reader = PeriodicExportingMetricReader(telemetry.with_histograms(sink), export_interval_millis=3_600_000)
        provider = MeterProvider([reader])
        metrics.set_meter_provider(provider)
        took.record(0.05); took.record(0.5)
        reader.force_flush()
        took.record(0.5)
        reader.force_flush()
        reader.force_flush()
        answer([points(data)["backstay.wait.duration"][0] for data in sink.seen])
    """)
    assert [point["bucket_counts"] for point in found] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [round(point["sum"], 6) for point in found] == [0.55, 0.5, 0.0]
    assert found[1]["start_time_unix_nano"] == found[0]["time_unix_nano"]


def test_one_call_sets_everything_up_and_a_second_is_refused() -> None:
    found = run("""
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from backstay.errors import Misuse
        sink, spans = Sink(), InMemorySpanExporter()
        shutdown = telemetry.setup(service="shop", exporter=sink, span_exporter=spans, interval=3600)
        telemetry.histogram("wait.duration", "s").record(0.05)
        with telemetry.span("lock.acquire", resource="a"):
            pass
        try:
            telemetry.setup(service="again", exporter=sink)
        except Misuse as error:
            refused = str(error)
        shutdown()
        resource = sink.seen[-1]["resource_metrics"][0]["resource"]["attributes"]
        answer([resource["service.name"], sorted(points(sink.seen[-1])), sink.closed, refused,
                [[s.name, dict(s.attributes), s.resource.attributes["service.name"]]
                 for s in spans.get_finished_spans()]])
    """)
    service, names, closed, refused, spans = found
    assert service == "shop"
    assert "backstay.wait.duration" in names
    assert closed == 1
    assert "already" in refused
    assert "with_histograms" in refused
    assert spans == [["backstay.lock.acquire", {"backstay.resource": "a"}, "shop"]]


def test_spans_nest_carry_links_and_say_what_failed_without_leaking() -> None:
    found = run("""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from backstay.errors import NotAcquired
        kept = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        trace.set_tracer_provider(provider)
        with telemetry.span("txn.run") as outer:
            stored = telemetry.traceparent()
            with telemetry.span("txn.branch", resource="pay"):
                pass
        with telemetry.span("txn.recover", link=stored):
            pass
        with telemetry.span("txn.remote", parent=stored):
            pass
        for name, error in (("own", NotAcquired("held by web-3")), ("foreign", OSError("redis://u:hunter2@h"))):
            try:
                with telemetry.span("lock." + name):
                    raise error
            except Exception:
                pass
        try:
            with telemetry.span("lock.interrupted"):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        ours = {s.name: s for s in kept.get_finished_spans()}
        context = ours["backstay.txn.run"].context
        answer({
            "nested": ours["backstay.txn.branch"].parent.span_id == context.span_id,
            "linked": [l.context.span_id == context.span_id for l in ours["backstay.txn.recover"].links],
            "detached": ours["backstay.txn.recover"].parent is None,
            "remote": ours["backstay.txn.remote"].parent.span_id == context.span_id,
            "own": [ours["backstay.lock.own"].status.description, dict(ours["backstay.lock.own"].attributes)],
            "foreign": [ours["backstay.lock.foreign"].status.description,
                        dict(ours["backstay.lock.foreign"].attributes)],
            "interrupted": ours["backstay.lock.interrupted"].status.status_code.name,
            "events": [len(s.events) for s in kept.get_finished_spans()],
            "scope": ours["backstay.lock.own"].instrumentation_scope.name,
            "after": telemetry.traceparent(),
        })
    """)
    assert found["nested"]
    assert found["linked"] == [True]
    assert found["detached"]
    assert found["remote"]
    assert found["own"] == ["held by web-3", {"error.type": "backstay.errors.NotAcquired"}]
    assert found["foreign"] == ["OSError", {"error.type": "OSError"}]
    assert found["interrupted"] == "UNSET"
    assert set(found["events"]) == {0}
    assert found["scope"] == "backstay"
    assert found["after"] is None


def test_OT1_the_library_sets_no_provider_and_imports_no_sdk() -> None:
    code = """
import sys
import backstay.telemetry as t
t.counter("calls", "{call}").n += 1
t.histogram("d", "s").record(1)
with t.span("x"): pass
t.snapshot()
from opentelemetry import metrics, trace
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
assert not [m for m in sys.modules if m.startswith("opentelemetry.sdk")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_sdk_set_up_names_the_cure() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
import backstay.telemetry as t
from backstay.errors import MissingExtra
for call in (lambda: t.setup(service="shop"), lambda: t.with_histograms(object())):
    try:
        call()
    except MissingExtra as error:
        print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.count("pip install 'backstay[otel]'") == 2


def test_a_provider_named_by_the_environment_records_spans() -> None:
    code = """
import backstay.telemetry as t
with t.span("x") as span:
    print(span.is_recording())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider", "PATH": ""},
    )
    assert ended.stdout == "True\n"
