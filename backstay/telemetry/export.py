"""True histograms for an OpenTelemetry SDK: the exporter wrapper and the one-call set-up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from backstay import __version__
from backstay.errors import MissingExtra, Misuse
from backstay.telemetry.instruments import SCOPE, Wrapping
from backstay.telemetry.naming import Attributes
from backstay.telemetry.readings import Kind, Reading
from backstay.telemetry.registry import Registry

try:
    import opentelemetry.sdk.metrics.export as sdk
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import Histogram as SdkHistogram, MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ImportError as missing:
    raise MissingExtra("opentelemetry-sdk is not installed; pip install 'backstay[otel]'") from missing

__all__ = ["HistogramExporter", "set_up"]


class HistogramExporter(sdk.MetricExporter):
    """Hands everything on to another exporter, with the library's histograms added."""

    def __init__(self, exporter: Any, registry: Registry, wrapping: Wrapping) -> None:
        # The reader asks the exporter for these two by their private names; there is no public way.
        temporality: dict[type, sdk.AggregationTemporality] = getattr(exporter, "_preferred_temporality", None) or {}
        super().__init__(temporality, getattr(exporter, "_preferred_aggregation", None))
        self._exporter = exporter
        self._registry = registry
        self._wrapping = wrapping
        self._delta = temporality.get(SdkHistogram) is sdk.AggregationTemporality.DELTA
        self._sent: dict[tuple[str, Attributes], Reading] = {}
        self._sent_ns = 0
        wrapping.begin(self)

    def export(
        self, metrics_data: sdk.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> sdk.MetricExportResult:
        result: sdk.MetricExportResult = self._exporter.export(
            self._add(metrics_data), timeout_millis=timeout_millis, **kwargs
        )
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._wrapping.end(self)
        self._exporter.shutdown(timeout_millis, **kwargs)

    def _add(self, data: sdk.MetricsData) -> sdk.MetricsData:
        histograms = self._histograms()
        if not histograms or not data.resource_metrics:
            return data
        *others, last = data.resource_metrics
        foreign = [scoped for scoped in last.scope_metrics if scoped.scope.name != SCOPE]
        numbers = [metric for scoped in last.scope_metrics if scoped.scope.name == SCOPE for metric in scoped.metrics]
        scope = InstrumentationScope(SCOPE, __version__)
        ours = sdk.ScopeMetrics(scope=scope, metrics=[*numbers, *histograms], schema_url="")
        return replace(data, resource_metrics=[*others, replace(last, scope_metrics=[*foreign, ours])])

    def _histograms(self) -> list[sdk.Metric]:
        now = time.time_ns()
        begun = self._registry.started_ns
        if self._sent_ns < begun:  # first export, or a forked child that counts from zero
            self._sent.clear()
        metrics: list[sdk.Metric] = []
        for metric in self._registry.metrics():
            if metric.kind is not Kind.HISTOGRAM:
                continue
            points = [self._point(reading, begun, now) for reading in metric.readings()]
            temporality = sdk.AggregationTemporality.DELTA if self._delta else sdk.AggregationTemporality.CUMULATIVE
            if points:
                body = sdk.Histogram(data_points=points, aggregation_temporality=temporality)
                metrics.append(sdk.Metric(name=metric.name, description="", unit=metric.unit, data=body))
        self._sent_ns = now
        return metrics

    def _point(self, reading: Reading, begun: int, now: int) -> sdk.HistogramDataPoint:
        counts, total, start = reading.buckets, reading.sum, begun
        if self._delta:
            before = self._sent.get((reading.name, reading.attributes))
            start = max(begun, self._sent_ns)
            if before is not None:
                counts = tuple(new - old for new, old in zip(counts, before.buckets, strict=True))
                total -= before.sum
            self._sent[reading.name, reading.attributes] = reading
        return sdk.HistogramDataPoint(
            attributes=dict(reading.attributes),
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=reading.bounds,
            min=math.inf,  # not recorded; the SDK's own histograms say so in the same way
            max=-math.inf,
        )


def set_up(
    registry: Registry, wrapping: Wrapping, service: str, exporter: Any, span_exporter: Any, interval: float
) -> Callable[[], None]:
    """Set the global providers; see `backstay.telemetry.setup`."""
    if not interval > 0:
        raise Misuse(f"interval must be > 0 s, got {interval:g}")
    if isinstance(metrics.get_meter_provider(), MeterProvider):
        raise Misuse(
            "this process has a meter provider already; give its exporter to with_histograms instead of calling setup"
        )
    resource = Resource.create({"service.name": service})
    carrying = HistogramExporter(exporter or sdk.ConsoleMetricExporter(), registry, wrapping)
    reader = sdk.PeriodicExportingMetricReader(carrying, export_interval_millis=interval * 1000)
    provider = MeterProvider([reader], resource=resource)
    metrics.set_meter_provider(provider)
    stops: list[Callable[[], None]] = [provider.shutdown]
    if span_exporter is not None:
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(BatchSpanProcessor(span_exporter))
        trace.set_tracer_provider(tracing)
        stops.append(tracing.shutdown)

    def shutdown() -> None:
        for stop in stops:
            stop()

    return shutdown
