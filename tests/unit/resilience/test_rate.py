"""The grammar of rates, and mistakes in them: each a clear error when the rate is read."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import limits
import pytest
from hypothesis import given, strategies as st

from backstay.errors import MissingExtra, Misuse
from backstay.redis import target
from backstay.resilience import Rate, RateLimiter
from backstay.resilience.rate_limiting.backends.redis import RedisBuckets, Store
from backstay.resilience.rate_limiting.grammar import units


@pytest.mark.parametrize(
    ("text", "count", "seconds", "burst"),
    [
        ("100/minute", 100, 60, 100),
        ("100 / minutes", 100, 60, 100),
        ("7 per 60 second", 7, 60, 7),
        ("7PER60SECONDS", 7, 60, 7),
        ("1/day", 1, 86_400, 1),
        ("100/second;burst=200", 100, 1, 200),
        (" 5/2 hour ; BURST = 1 ", 5, 7200, 1),
        ("3/month", 3, 30 * 86_400, 3),
    ],
)
def test_a_rate_is_read(text: str, count: int, seconds: int, burst: int) -> None:
    rate = Rate.of(text)
    assert (rate.count, rate.period_us, rate.capacity) == (count, seconds * 1_000_000, burst)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("100/fortnite", "known: .*second.*minute"),
        ("", "write '100/minute'"),
        ("fast", "write '100/minute'"),
        ("-1/second", "write '100/minute'"),
        ("1.5/second", "write '100/minute'"),
        ("0/second", "at least 1"),
        ("5/0 second", "at least 1"),
        ("5/second;burst=0", "burst of a rate"),
        ("5/second;burst=-3", "known: burst"),
        ("5/second;size=3", "known: burst"),
        ("5/second;burst=3;burst=4", "twice"),
        ("5/second, 10/minute", "write '100/minute'"),
        ("9" * 5000 + "/second", "write '100/minute'"),
    ],
)
def test_a_wrong_rate_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(Misuse, match=told):
        Rate.of(text)


@pytest.mark.parametrize("wrong", [None, 5, 5.0, ("5", "second"), object()])
def test_what_is_no_rate_is_refused(wrong: object) -> None:
    with pytest.raises(Misuse, match="written like '100/minute'"):
        Rate.of(wrong)


@pytest.mark.parametrize(
    ("count", "period", "burst"),
    [(0, 1, None), (-1, 1, None), (True, 1, None), (1.5, 1, None), (1, 0, None), (1, -1, None), (1, float("nan"), None),
     (1, float("inf"), None), (1, 1e-9, None), (1, 1 / 3, None), (1, "1", None),
     (1, True, None), (1, 1, 0), (1, 1, 2.0),
     (10**13, 1, None)],
)  # fmt: skip
def test_bad_numbers_are_refused(count: object, period: object, burst: object) -> None:
    with pytest.raises(Misuse):
        Rate(count=count, period=period, burst=burst)  # type: ignore[arg-type]  # what untyped callers pass


def test_periods_below_a_second_and_timedeltas_are_exact() -> None:
    assert Rate(count=7, period=0.01).period_us == 10_000
    assert Rate(count=7, period=timedelta(milliseconds=10)).period_us == 10_000
    assert Rate(count=1, period=0.000001).period_us == 1


def test_items_of_limits_are_rates() -> None:
    rate = Rate.of(limits.parse("5/2 second"))
    assert (rate.count, rate.period_us, rate.capacity) == (5, 2_000_000, 5)


@given(st.integers(1, 10**6), st.sampled_from(["/", " per ", "per"]), st.none() | st.integers(1, 999), st.data())
def test_the_grammar_is_that_of_limits(count: int, sep: str, multiple: int | None, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from([*units(), *(name + "s" for name in units()), "fortnite", "secondss"]))
    text = f"{count}{sep}{multiple or ''} {unit}"
    try:
        item = limits.parse(text)
    except ValueError:
        with pytest.raises(Misuse):
            Rate.of(text)
    else:
        rate = Rate.of(text)
        assert (rate.count, rate.period_us) == (item.amount, item.get_expiry() * 1_000_000)


def test_the_same_units_are_known_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with_limits = units()
    monkeypatch.setitem(sys.modules, "limits.limits", None)
    assert units() == with_limits
    assert str(Rate.of("7 per 60 second;burst=9")) == "7 per 60 second;burst=9"


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_rate_is_written_as_it_is_read(count: int, seconds: int, burst: int) -> None:
    rate = Rate(count=count, period=seconds, burst=burst)
    again = Rate.of(str(rate))
    assert (again.count, again.period_us, again.capacity) == (rate.count, rate.period_us, rate.capacity)


def test_IN4_the_package_imports_no_optional_dependency() -> None:
    code = (
        "import sys, backstay.resilience as r; r.RateLimiter.connect(rate=r.Rate(count=1), name='n').acquire();"
        "r.protect('n', limit=r.Rate(count=1))(lambda: 1)();"
        "found = {'redis', 'hiredis', 'limits', 'tenacity', 'flask', 'fastapi', 'sqlalchemy'} & set(sys.modules);"
        "sys.exit(', '.join(found) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_without_redis_py_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("backstay.resilience.rate_limiting.backends.redis")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=r"pip install 'backstay\[redis\]'"):
        RateLimiter.connect("redis://localhost", rate="1/second", name="missing")


def test_a_share_keeps_the_rate_in_proportion() -> None:
    share = Rate.of("100/second;burst=200").share(1 / 4)
    assert share.count * 1_000_000 / share.period_us == 25
    assert share.capacity == 50
    assert Rate.of("1/second").share(0.1).capacity == 1


def test_a_burst_that_redis_cannot_count_exactly_is_refused_at_configuration() -> None:
    store = Store(target("redis://localhost"), budget=0.05)
    with pytest.raises(Misuse, match="71 years"):
        RedisBuckets(store, Rate.of("1/year;burst=100"), namespace="t", name="t")
    assert RedisBuckets(store, Rate.of("1/year;burst=50"), namespace="t", name="t").scale.token > 0
