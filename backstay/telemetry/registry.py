"""All series of the process, by metric name and attributes."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from backstay.errors import Misuse
from backstay.telemetry.counters import Counter, new_counter
from backstay.telemetry.histograms import Histogram, bounds_for, new_histogram
from backstay.telemetry.naming import Attributes, AttributeValue, Limit, full_name
from backstay.telemetry.readings import Kind, Reading, Snapshot
from backstay.telemetry.references import hold

__all__ = ["Gauge", "Metric", "Outlet", "Registry"]

logger = logging.getLogger("backstay.telemetry")

S = TypeVar("S", bound="Counter | Histogram | Gauge")


class Gauge:
    """A value that is read by a callback at export; `close` ends it before its owner does."""

    __slots__ = ("_complained", "_read")

    def __init__(self, read: Callable[[], float]) -> None:
        self._read: Callable[[], Callable[[], float] | None] = hold(read)
        self._complained = False

    def close(self) -> None:
        """Export this gauge no longer."""
        self._read = lambda: None

    def value(self, name: str) -> float | None:
        """Return what the callback says, or None where it is gone or raises (logged once)."""
        read = self._read()
        if read is None:
            return None
        try:
            return float(read())
        except Exception as error:
            # One broken callback must not take the other series of the export with it.
            if not self._complained:
                logger.warning("gauge %s is left out: its callback raised %s", name, type(error).__name__)
                self._complained = True
            return None


class Metric:
    """One metric: its name, kind, unit and series."""

    __slots__ = ("bounds", "kind", "limit", "name", "series", "unit")

    def __init__(self, name: str, kind: Kind, unit: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit
        self.bounds = bounds
        self.limit = Limit()
        self.series: dict[Attributes, Counter | Histogram | Gauge] = {}

    def readings(self) -> Iterator[Reading]:
        """Yield what each series reads now. Takes no lock: exporters call this beside hot paths (OT-8)."""
        for attributes, series in tuple(self.series.items()):
            buckets: tuple[int, ...] = ()
            total = 0.0
            value: float | None
            if isinstance(series, Histogram):
                buckets, total = tuple(series.buckets), series.sum
                value = sum(buckets)
            elif isinstance(series, Gauge):
                value = series.value(self.name)
            else:
                value = series.total
            if value is not None:
                yield Reading(
                    name=self.name,
                    kind=self.kind,
                    unit=self.unit,
                    attributes=attributes,
                    value=value,
                    sum=total,
                    buckets=buckets,
                    bounds=self.bounds,
                )


class Outlet(Protocol):
    """Where metrics leave: told about each metric once, before or after the outlet was opened."""

    def offer(self, metric: Metric) -> None:
        """Export `metric` from now on."""
        ...


class Registry:
    """The series of one process. There is one for the library; tests make their own."""

    def __init__(self) -> None:
        self.started_ns = time.time_ns()  # goes out as the start of cumulative series; decides nothing
        # Reentrant: the collector may run in here and close a stream, whose end is counted.
        self._lock = threading.RLock()
        self._metrics: dict[str, Metric] = {}
        self._outlets: list[Outlet] = []
        _registries.add(self)

    def counter(self, kind: Kind, name: str, unit: str, attributes: Mapping[str, AttributeValue]) -> Counter:
        """Return the counter (or up-down counter) of these attributes, the same one each time."""
        return self._series(self._metric(name, kind, unit, ()), attributes, new_counter)

    def histogram(
        self, name: str, unit: str, bounds: Sequence[float] | None, attributes: Mapping[str, AttributeValue]
    ) -> Histogram:
        """Return the histogram of these attributes, the same one each time."""
        metric = self._metric(name, Kind.HISTOGRAM, unit, bounds_for(unit, bounds))
        return self._series(metric, attributes, lambda: new_histogram(metric.bounds))

    def gauge(
        self, kind: Kind, name: str, unit: str, read: Callable[[], float], attributes: Mapping[str, AttributeValue]
    ) -> Gauge:
        """Make `read` the gauge of these attributes; an earlier one with the same attributes is replaced."""
        metric = self._metric(name, kind, unit, ())
        gauge = Gauge(read)
        with self._lock:
            metric.series[metric.limit.admit(attributes, metric.series)] = gauge
        return gauge

    def open(self, outlet: Outlet) -> None:
        """Offer all metrics, those of the future as well, to `outlet`."""
        with self._lock:
            self._outlets.append(outlet)
            known = tuple(self._metrics.values())
        for metric in known:
            outlet.offer(metric)

    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics that exist now."""
        return tuple(self._metrics.values())

    def snapshot(self) -> Snapshot:
        """Return what every series reads now."""
        return Snapshot(readings=tuple(reading for metric in self.metrics() for reading in metric.readings()))

    def zero_in_child(self) -> None:
        """Forget the parent's counts, which the child would export a second time."""
        self._lock = threading.RLock()  # the old one may be held by a thread that does not exist here
        self.started_ns = time.time_ns()
        for metric in self._metrics.values():
            for series in metric.series.values():
                if not isinstance(series, Gauge):
                    series.zero()

    def _metric(self, name: str, kind: Kind, unit: str, bounds: tuple[float, ...]) -> Metric:
        called = full_name(name)
        with self._lock:
            metric = self._metrics.get(called)
            if metric is None:
                made = Metric(called, kind, unit, bounds)
                metric = self._metrics.setdefault(called, made)
                outlets = tuple(self._outlets) if metric is made else ()
            elif (metric.kind, metric.unit, metric.bounds) != (kind, unit, bounds):
                raise Misuse(
                    f"metric {called!r} is a {metric.kind.value} in {metric.unit!r} already; "
                    f"it cannot be a {kind.value} in {unit!r} with other bounds as well"
                )
            else:
                return metric
        for outlet in outlets:  # outside the lock: outlets take the SDK's locks
            outlet.offer(metric)
        return metric

    def _series(self, metric: Metric, attributes: Mapping[str, AttributeValue], new: Callable[[], S]) -> S:
        with self._lock:
            key = metric.limit.admit(attributes, metric.series)
            series = metric.series.get(key)
            if series is None:
                series = metric.series.setdefault(key, new())
            return series  # type: ignore[return-value]  # a metric's series are all of the kind it was made with


_registries: weakref.WeakSet[Registry] = weakref.WeakSet()


def zero_all_in_child() -> None:
    """Run `zero_in_child` on every registry; registered for forks once, since hooks cannot be removed."""
    for registry in tuple(_registries):
        registry.zero_in_child()
