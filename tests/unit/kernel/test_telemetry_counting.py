"""Counters and histograms: exact, cheap, and the same object for the same attributes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from backstay.errors import Misuse
from backstay.telemetry.counters import PlainCounter, ThreadCounter, new_counter
from backstay.telemetry.histograms import COUNTS, SECONDS, Histogram, LockedHistogram, bounds_for, new_histogram
from backstay.telemetry.naming import MOST_NAMES, OTHER, Limit, attribute_key, full_name
from backstay.telemetry.readings import Kind
from backstay.telemetry.registry import Registry

THREADS, ROUNDS = 8, 20_000
MANY = 20_000


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let CPython change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("kind", [PlainCounter, ThreadCounter])
def test_no_count_is_lost_between_threads(kind: type[PlainCounter] | type[ThreadCounter]) -> None:
    counter = kind()

    def work() -> None:
        for _ in range(ROUNDS):
            counter.n += 1

    in_threads(work)
    assert counter.total == THREADS * ROUNDS


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("kind", [Histogram, LockedHistogram])
def test_no_value_is_lost_between_threads(kind: type[Histogram]) -> None:
    histogram = kind((1.0, 2.0))

    def work() -> None:
        for number in range(ROUNDS // 2):
            histogram.record(number % 4)

    in_threads(work)
    assert histogram.buckets == [THREADS * ROUNDS // 4, THREADS * ROUNDS // 8, THREADS * ROUNDS // 8]
    assert histogram.count == THREADS * ROUNDS // 2
    assert histogram.sum == THREADS * ROUNDS // 2 * 1.5


def test_shares_of_dead_threads_are_folded_and_leave_nothing_behind() -> None:
    counter = ThreadCounter()

    def add() -> None:
        counter.n += 1

    for _ in range(40):
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
    counter.n += 1
    assert counter.total == 41
    assert len(counter._shares) == 1
    assert counter.total == 41
    counter.zero()
    counter.n += 2
    assert counter.total == 2


def test_builds_without_a_gil_get_the_counters_made_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert isinstance(new_counter(), ThreadCounter)
    assert isinstance(new_histogram(SECONDS), LockedHistogram)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert isinstance(new_counter(), PlainCounter)
    assert type(new_histogram(SECONDS)) is Histogram


def test_bounds_are_inclusive_above_and_the_last_bucket_takes_the_rest() -> None:
    histogram = Histogram((0.1, 0.5, 1.0))
    for value in (0.0, 0.1, 0.10001, 0.5, 1.0, 1.0001, 99.0):
        histogram.record(value)
    assert histogram.buckets == [2, 2, 1, 2]
    assert histogram.count == 7


def test_OT6_durations_have_the_conventions_buckets_and_smaller_ones() -> None:
    advised = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
    assert advised <= set(bounds_for("s", None))
    assert min(bounds_for("s", None)) == 0.00001
    assert bounds_for("{retry}", None) == COUNTS
    assert list(SECONDS) == sorted(SECONDS)


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1)])
def test_bounds_must_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(Misuse, match="must rise"):
        bounds_for("s", bounds)


# -- names


def test_OT5_names_get_the_prefix_once() -> None:
    assert full_name("rate_limiter.requests") == "backstay.rate_limiter.requests"
    assert full_name("backstay.rate_limiter.requests") == "backstay.rate_limiter.requests"


@pytest.mark.parametrize("name", ["", "Rate.Limiter", "rate limiter", "rate..limiter", ".rate", "rate-limiter", "1st"])
def test_OT5_malformed_names_are_misuse(name: str) -> None:
    with pytest.raises(Misuse, match="no name"):
        full_name(name)


@pytest.mark.parametrize("name", ["requests.total", "requests_total"])
def test_OT5_total_is_the_exporters_word(name: str) -> None:
    with pytest.raises(Misuse, match="total"):
        full_name(name)


def test_attributes_are_exported_under_the_librarys_own_names() -> None:
    assert [attribute_key(word) for word in ("result", "resource", "from_", "error_type", "policy_type")] == [
        "backstay.result",
        "backstay.resource",
        "backstay.from",
        "error.type",
        "backstay.policy.type",
    ]


# -- registry


def test_the_same_attributes_give_the_same_instrument() -> None:
    registry = Registry()
    one = registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": "a", "result": "ok"})
    same = registry.counter(Kind.COUNTER, "calls", "{call}", {"result": "ok", "resource": "a"})
    other = registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": "b", "result": "ok"})
    assert one is same
    assert one is not other
    took = registry.histogram("took", "s", None, {})
    assert took is registry.histogram("took", "s", None, {})


def test_threads_that_ask_at_once_get_one_instrument() -> None:
    registry, found = Registry(), []
    start = threading.Barrier(THREADS)

    def ask() -> None:
        start.wait()
        found.append(registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": "a"}))

    in_threads(ask)
    assert len(found) == THREADS
    assert len(set(map(id, found))) == 1


def test_a_name_belongs_to_one_kind_and_unit() -> None:
    registry = Registry()
    registry.counter(Kind.COUNTER, "calls", "{call}", {})
    with pytest.raises(Misuse, match=r"'backstay\.calls' is a counter in '\{call\}' already"):
        registry.counter(Kind.UPDOWN, "calls", "{call}", {})
    with pytest.raises(Misuse, match="already"):
        registry.counter(Kind.COUNTER, "calls", "{request}", {})
    with pytest.raises(Misuse, match="already"):
        registry.histogram("calls", "{call}", None, {})


def test_OT4_names_without_end_make_a_constant_number_of_series() -> None:
    registry = Registry()
    kept = registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": "0", "result": "ok"})
    for number in range(MANY):
        counter = registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": str(number), "result": "ok"})
        counter.n += 1
    (metric,) = registry.metrics()
    assert len(metric.series) == MOST_NAMES + 1
    assert registry.snapshot().value("calls", resource=OTHER) == MANY - MOST_NAMES
    assert registry.snapshot().value("calls") == MANY
    assert registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": "0", "result": "ok"}) is kept


def test_OT4_every_attribute_has_a_limit_of_its_own_and_the_metric_one_for_all() -> None:
    limit = Limit(names=3, series=5)
    assert limit.admit({"resource": "a", "result": "x"}, ()) == (("backstay.resource", "a"), ("backstay.result", "x"))
    full = [(("backstay.resource", str(n)),) for n in range(5)]
    assert limit.admit({"resource": "b"}, full) == (("backstay.resource", OTHER),)
    assert limit.admit({"resource": "2"}, full) == (("backstay.resource", "2"),)
    assert limit.admit({"resource": "d"}, ()) == (("backstay.resource", OTHER),)
    assert limit.admit({"resource": "a"}, ()) == (("backstay.resource", "a"),)


def test_a_snapshot_adds_the_series_that_match() -> None:
    registry = Registry()
    for resource, result, count in (("a", "ok", 3), ("a", "error", 1), ("b", "ok", 10)):
        counter = registry.counter(Kind.COUNTER, "calls", "{call}", {"resource": resource, "result": result})
        counter.n += count
    took = registry.histogram("took", "s", None, {"resource": "a"})
    took.record(0.5)
    took.record(1.5)
    snapshot = registry.snapshot()
    took.record(9)
    assert snapshot.value("calls") == 14
    assert snapshot.value("backstay.calls", resource="a") == 4
    assert snapshot.value("calls", resource="a", result="ok") == 3
    assert snapshot.value("calls", resource="c") == 0
    assert snapshot.value("never.made") == 0
    assert (snapshot.value("took"), snapshot.seconds("took", resource="a")) == (2, 2.0)
    assert {
        "name": "backstay.took",
        "unit": "s",
        "attributes": {"backstay.resource": "a"},
        "value": 2,
        "sum": 2.0,
    } in snapshot.as_json()
