"""What all instruments read at one moment, as plain values: for operators, tests and exporters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from backstay.telemetry.naming import Attributes, AttributeValue, attribute_key, full_name

__all__ = ["Kind", "Reading", "Snapshot"]


class Kind(Enum):
    """What a metric is to OpenTelemetry."""

    COUNTER = "counter"
    UPDOWN = "updown"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    LEVEL = "level"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One series at one moment: `value` is a count, a level or, for a histogram, how many values it holds."""

    name: str
    kind: Kind
    unit: str
    attributes: Attributes
    value: float
    sum: float = 0.0
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()

    def matches(self, name: str, wanted: Attributes) -> bool:
        """Return whether this is a series of metric `name` that has all `wanted` attributes."""
        return self.name == name and set(wanted) <= set(self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All series at one moment. Series read one after the other: sums over several are not one instant."""

    readings: tuple[Reading, ...]

    def __iter__(self) -> Iterator[Reading]:
        return iter(self.readings)

    def value(self, name: str, **attributes: AttributeValue) -> float:
        """Return the sum of all series of `name` that have all `attributes`; 0 where there is none."""
        return sum(reading.value for reading in self._select(name, attributes))

    def seconds(self, name: str, **attributes: AttributeValue) -> float:
        """Return the sum of the values that the histograms of `name` hold."""
        return sum(reading.sum for reading in self._select(name, attributes))

    def as_json(self) -> list[dict[str, object]]:
        """Return the readings as values that `json` can write, for an operator's page."""
        return [
            {
                "name": reading.name,
                "unit": reading.unit,
                "attributes": dict(reading.attributes),
                "value": reading.value,
                **({"sum": reading.sum} if reading.kind is Kind.HISTOGRAM else {}),
            }
            for reading in self.readings
        ]

    def _select(self, name: str, attributes: dict[str, AttributeValue]) -> Iterator[Reading]:
        wanted = tuple((attribute_key(key), value) for key, value in attributes.items())
        called = full_name(name)
        return (reading for reading in self.readings if reading.matches(called, wanted))
