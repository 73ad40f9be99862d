"""Asynchronous instruments on an OpenTelemetry meter: how in-process counts leave (API only, OT-1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from backstay import __version__
from backstay.telemetry.readings import Kind, Reading
from backstay.telemetry.registry import Metric

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

__all__ = ["SCOPE", "MeterOutlet", "Wrapping"]

Callback: TypeAlias = "Callable[[CallbackOptions], Iterable[Observation]]"

SCOPE = "backstay"
_UNIT_WORDS = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}  # what Prometheus puts behind a name


class Wrapping:
    """How many exporters carry true histograms: while there is one, the series that stand in for them are silent."""

    __slots__ = ("_exporters",)

    def __init__(self) -> None:
        self._exporters: set[int] = set()

    def begin(self, exporter: object) -> None:
        """Note that `exporter` carries the histograms."""
        self._exporters.add(id(exporter))

    def end(self, exporter: object) -> None:
        """Note that `exporter` was shut down."""
        self._exporters.discard(id(exporter))

    @property
    def active(self) -> bool:
        """Whether any exporter carries the histograms."""
        return bool(self._exporters)


class MeterOutlet:
    """Makes one asynchronous instrument a metric on the meter of `provider`, or of the global one.

    The meter is asked for at the first metric. On the global meter that works before an SDK is set up as
    well: the API hands its instruments over to the SDK once there is one.
    """

    def __init__(self, wrapping: Wrapping, provider: MeterProvider | None = None) -> None:
        self._wrapping = wrapping
        self._provider = provider
        self._meter: Meter | None = None

    def offer(self, metric: Metric) -> None:
        """Make the instrument of `metric`, or the three that stand in for a histogram."""
        from opentelemetry.metrics import get_meter  # 30 ms to import: not before something is counted

        if self._meter is None:
            self._meter = get_meter(SCOPE, __version__, meter_provider=self._provider)
        if metric.kind is Kind.HISTOGRAM:
            self._stand_in(self._meter, metric)
            return
        make = {
            Kind.COUNTER: self._meter.create_observable_counter,
            Kind.UPDOWN: self._meter.create_observable_up_down_counter,
            Kind.LEVEL: self._meter.create_observable_up_down_counter,
            Kind.GAUGE: self._meter.create_observable_gauge,
        }[metric.kind]
        make(metric.name, [_observe(metric.readings, _value)], unit=metric.unit)

    def _stand_in(self, meter: Meter, metric: Metric) -> None:
        """Make the series that `histogram_quantile` reads; up-down counters, since exporters add `_total` to others."""
        name = metric.name + _UNIT_WORDS.get(metric.unit, "")

        def readings() -> Iterator[Reading]:
            return iter(()) if self._wrapping.active else metric.readings()

        for suffix, split in (("_bucket", _buckets), ("_sum", _sum), ("_count", _value)):
            meter.create_observable_up_down_counter(name + suffix, [_observe(readings, split)])


Points: TypeAlias = "Iterable[tuple[float, dict[str, str]]]"


def _value(reading: Reading) -> Points:
    return ((reading.value, {}),)


def _sum(reading: Reading) -> Points:
    return ((reading.sum, {}),)


def _buckets(reading: Reading) -> Points:
    bounds = [*map(repr, reading.bounds), "+Inf"]
    return ((count, {"le": bound}) for bound, count in zip(bounds, accumulate(reading.buckets), strict=True))


def _observe(readings: Callable[[], Iterator[Reading]], split: Callable[[Reading], Points]) -> Callback:
    def callback(options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        for reading in readings():
            for value, extra in split(reading):
                yield Observation(value, {**dict(reading.attributes), **extra})

    return callback
