"""What Backstay measures: counted in process, exported through the OpenTelemetry API.

    calls = counter("rate_limiter.requests", "{request}", resource="purchase", result="acquired")
    calls.n += 1                                        # 0.03 us, exact; a constant or a local on the right
    took = histogram("rate_limiter.wait.duration", "s", resource="purchase")
    took.record(seconds)
    gauge("bulkhead.limit", "{permit}", lambda: limit, resource="purchase")
    with span("saga.recover", link=stored): ...

The same name and attributes give the same instrument, so instruments are made where a policy is configured,
never on the way of a call. Every attribute takes at most 200 values a metric, then `_other` (OT-4): names from
configuration belong here, callers' keys do not. A forked child starts at zero.

Nothing has to be set up: with an OpenTelemetry SDK in the service its readers find everything; `setup` makes
a small one (extra `otel`). `snapshot` reads all series without any SDK, `background` lists background work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from backstay.telemetry.counters import Counter
from backstay.telemetry.daemons import Announcement, Background, announce, background, forget_in_child
from backstay.telemetry.histograms import Histogram
from backstay.telemetry.instruments import MeterOutlet, Wrapping
from backstay.telemetry.naming import AttributeValue
from backstay.telemetry.readings import Kind, Reading, Snapshot
from backstay.telemetry.registry import Gauge, Registry, zero_all_in_child
from backstay.telemetry.spans import error_type, span, traceparent

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = [
    "Announcement",
    "Background",
    "Counter",
    "Gauge",
    "Histogram",
    "Kind",
    "Reading",
    "Snapshot",
    "accrued",
    "announce",
    "background",
    "counter",
    "error_type",
    "export_to",
    "gauge",
    "histogram",
    "level",
    "setup",
    "snapshot",
    "span",
    "traceparent",
    "updown",
    "with_histograms",
]

_wrapping = Wrapping()
_registry = Registry()
_registry.open(MeterOutlet(_wrapping))


def counter(name: str, unit: str, **attributes: AttributeValue) -> Counter:
    """Return the counter of these attributes: `counter.n += 1`, never down.

    Args:
        name: lowercase words in dots, plural for things counted; the prefix `backstay.` may be left out.
        unit: `"{request}"`, singular in braces.
        attributes: closed sets and configured names only; `result="x"` is exported as `backstay.result`.

    Raises:
        Misuse: the name is malformed or belongs to another kind of metric or unit.
    """
    return _registry.counter(Kind.COUNTER, name, unit, attributes)


def updown(name: str, unit: str, **attributes: AttributeValue) -> Counter:
    """Return an up-down counter: `n += 1` at the start of something and `n -= 1` at its end.

    A fork in between leaves the child, which started at zero, one too low; a `level` has no such fault.
    """
    return _registry.counter(Kind.UPDOWN, name, unit, attributes)


def histogram(
    name: str, unit: str, *, bounds: Sequence[float] | None = None, **attributes: AttributeValue
) -> Histogram:
    """Return the histogram of these attributes: `histogram.record(value)`.

    Args:
        name: as for `counter`, in the singular, such as `lock.wait.duration`.
        unit: `"s"` for durations.
        bounds: inclusive upper bounds of the buckets; by default 10 us to 10 s for seconds, 0 to 100 otherwise.
        attributes: as for `counter`.
    """
    return _registry.histogram(name, unit, bounds, attributes)


def gauge(name: str, unit: str, read: Callable[[], float], **attributes: AttributeValue) -> Gauge:
    """Export what `read` returns, at each export, as a value that means nothing added over processes.

    Args:
        name: as for `counter`.
        unit: `"1"` for ratios and states.
        read: quick, and free of locks that hot paths take (OT-8). A bound method does not keep its object
            alive: the gauge ends with it. One that raises is left out and named in the log once.
        attributes: as for `counter`; a second gauge with the same attributes replaces the first.
    """
    return _registry.gauge(Kind.GAUGE, name, unit, read, attributes)


def level(name: str, unit: str, read: Callable[[], float], **attributes: AttributeValue) -> Gauge:
    """Export what `read` returns as a value that may be added over processes, such as permits in use."""
    return _registry.gauge(Kind.LEVEL, name, unit, read, attributes)


def accrued(name: str, unit: str, read: Callable[[], float], **attributes: AttributeValue) -> Gauge:
    """Export what `read` returns as a counter: a total that only grows, such as seconds spent in a state.

    Whoever keeps the total sets it back to zero in a forked child.
    """
    return _registry.gauge(Kind.COUNTER, name, unit, read, attributes)


def snapshot() -> Snapshot:
    """Return what every series of the process reads now; needs no SDK."""
    return _registry.snapshot()


def export_to(provider: MeterProvider) -> None:
    """Export everything through `provider` as well as through the global one (OT-2)."""
    _registry.open(MeterOutlet(_wrapping, provider))


def with_histograms(exporter: Any) -> Any:
    """Return `exporter` so wrapped that it carries Backstay's histograms as true histograms.

    Takes any `opentelemetry.sdk` `MetricExporter`. While a wrapped exporter is open, the `_bucket`, `_sum` and
    `_count` series that stand in for histograms elsewhere are silent, so that nothing is counted twice.

    Raises:
        MissingExtra: opentelemetry-sdk is not installed.
    """
    from backstay.telemetry.export import HistogramExporter

    return HistogramExporter(exporter, _registry, _wrapping)


def setup(
    *, service: str, exporter: Any = None, span_exporter: Any = None, interval: float = 10.0
) -> Callable[[], None]:
    """Set OpenTelemetry up for a service that has no set-up of its own; return a function that shuts it down.

    Args:
        service: the `service.name` of the resource.
        exporter: a `MetricExporter`, such as `OTLPMetricExporter()`; by default metrics go to the console.
        span_exporter: a `SpanExporter`; by default no spans are recorded.
        interval: seconds between two exports.

    Raises:
        MissingExtra: opentelemetry-sdk is not installed.
        Misuse: the process has a meter provider already; wrap its exporter with `with_histograms` instead.
    """
    from backstay.telemetry.export import set_up

    return set_up(_registry, _wrapping, service, exporter, span_exporter, interval)


_registry.gauge(
    Kind.GAUGE, "telemetry.series", "{series}", lambda: sum(len(metric.series) for metric in _registry.metrics()), {}
)

if hasattr(os, "register_at_fork"):  # hooks cannot be removed: one for the library, here
    os.register_at_fork(after_in_child=zero_all_in_child)
    os.register_at_fork(after_in_child=forget_in_child)
