"""Levels of degradation on an injected clock: the machine, the signals, who outranks whom, what each level means."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from backstay import telemetry
from backstay.errors import BreakerOpen, BulkheadFull, Degraded, Misuse, RateLimited, Unavailable
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.levels import Actions, Bands, Level, LevelChange, Levels, LevelSettings
from backstay.resilience.levels.actions import READS
from backstay.resilience.levels.machine import Machine, Moved, Reading, diagram
from backstay.resilience.read_chain.reach import WORDS

NORMAL, WARNING, ERROR, SEVERE = Level
PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "policies" / "levels.md"
QUICK = LevelSettings(confirm=1, hold=2, dwell=2, window=15, probe_every=5, minimum_calls=10)


class Ticking:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def levels(clock: Ticking) -> Levels:
    return Levels(QUICK, clock=clock, wall=lambda: clock() + 1e9)


def steps(machine: Machine, rate: float, times: int, start: float = 0.0) -> list[Moved]:
    moves = (machine.step({"errors": Reading(rate)}, start + second) for second in range(times))
    return [move for move in moves if move is not None]


def feed(levels: Levels, clock: Ticking, name: str, good: int, bad: int, seconds: int = 1) -> None:
    for _ in range(seconds):
        for _ in range(good):
            levels.of(name).record(None)
        for _ in range(bad):
            levels.of(name).record(Unavailable("down"))
        clock.now += 1
        levels.evaluate()


@pytest.mark.parametrize(
    ("rate", "level"),
    [(0.0, NORMAL), (0.049, NORMAL), (0.05, WARNING), (0.10, WARNING), (0.15, WARNING), (0.199, WARNING),
     (0.20, ERROR), (0.30, ERROR), (0.499, ERROR), (0.50, SEVERE), (1.0, SEVERE)],
)  # fmt: skip
def test_DG1_default_bands(rate: float, level: Level) -> None:
    machine = Machine(LevelSettings())
    steps(machine, rate, 10)
    assert machine.level is level


def test_DG1_a_required_dependency_that_is_down_is_severe(levels: Levels, clock: Ticking) -> None:
    down = [True]
    shop = levels.of("shop", required=lambda: down[0])
    clock.now += 1
    shop.evaluate()
    assert (shop.level, shop.cause) == (SEVERE, "dependency")
    down[0] = False
    for _ in range(20):
        clock.now += 1
        shop.evaluate()
    assert shop.level is NORMAL


def test_DG1_fewer_calls_than_the_minimum_raise_nothing(levels: Levels, clock: Ticking) -> None:
    feed(levels, clock, "shop", 0, QUICK.minimum_calls - 1)
    assert levels.level("shop") == "normal"
    feed(levels, clock, "shop", 0, 1)
    assert levels.level("shop") == "severe"


def test_DG1_breakers_timeouts_limits_and_saturation_are_read(levels: Levels, clock: Ticking) -> None:
    breaker = CircuitBreaker("levels-stock", clock=clock)
    stock = levels.of("stock", breaker)
    breaker.force_open()
    assert (stock.level, stock.cause) == (ERROR, "breakers")  # heard at once, by the breaker's own event

    bulkhead = Bulkhead("levels-full", max_concurrent=1)
    full = levels.of("full", bulkhead)
    with bulkhead.admission():
        clock.now += 1
        full.evaluate()
    assert (full.level, full.sample["saturation"]) == (WARNING, 1.0)

    late = levels.of("late", settings=LevelSettings(errors=Bands(), confirm=1))
    for _ in range(20):
        late.record(TimeoutError())
    clock.now += 1
    late.evaluate()
    assert (late.level, late.cause) == (SEVERE, "timeouts")

    limited = levels.of("limited")
    for _ in range(20):
        limited.record(RateLimited("no"))
    clock.now += 1
    limited.evaluate()
    assert (limited.level, limited.cause) == (WARNING, "limited")


def test_DG2_confirmation_takes_evaluations_in_a_row() -> None:
    machine = Machine(LevelSettings(confirm=3))
    for second, rate in enumerate((0.9, 0.9, 0.0, 0.9, 0.9)):
        assert machine.step({"errors": Reading(rate)}, second) is None
    assert machine.step({"errors": Reading(0.9)}, 5) == Moved(before=NORMAL, after=SEVERE, cause="errors")


def test_DG2_what_is_entered_is_what_all_confirming_evaluations_asked_for() -> None:
    machine = Machine(LevelSettings(confirm=3))
    moves = [machine.step({"errors": Reading(rate)}, second) for second, rate in enumerate((0.9, 0.06, 0.9))]
    assert moves == [None, None, Moved(before=NORMAL, after=WARNING, cause="errors")]


def test_DG2_up_may_skip_and_down_goes_one_at_a_time() -> None:
    machine = Machine(LevelSettings(hold=10, dwell=10))
    assert [move.after for move in steps(machine, 0.9, 10)] == [SEVERE]
    down = [(second, move.after) for second in range(10, 60) if (move := machine.step({"errors": Reading(0)}, second))]
    assert down == [(20, ERROR), (30, WARNING), (40, NORMAL)]


def test_DG2_a_level_is_left_below_its_exit_only() -> None:
    machine = Machine(LevelSettings())
    steps(machine, 0.05, 5)
    assert steps(machine, 0.031, 100, 5) == []
    assert [move.after for move in steps(machine, 0.029, 100, 200)] == [NORMAL]


@given(rate=st.floats(0, 1), before=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_DG2_a_constant_rate_settles(rate: float, before: float) -> None:
    machine = Machine(LevelSettings())
    steps(machine, before, 10)
    steps(machine, rate, 60, 10)  # long enough for three levels down
    assert steps(machine, rate, 200, 100) == []
    assert len(steps(Machine(LevelSettings()), rate, 300)) <= 1


@given(
    band=st.sampled_from([(0.031, 0.199), (0.121, 0.499), (0.301, 1.0)]),
    shares=st.lists(st.floats(0, 1), min_size=20, max_size=80),
)
@settings(max_examples=60, deadline=None)
def test_DG2_a_rate_that_oscillates_inside_a_band_never_changes_the_level(
    band: tuple[float, float], shares: list[float]
) -> None:
    low, high = band
    machine = Machine(LevelSettings())
    steps(machine, high, 10)
    at = machine.level
    moves = [machine.step({"errors": Reading(low + (high - low) * share)}, 10 + n) for n, share in enumerate(shares)]
    assert moves == [None] * len(shares)
    assert machine.level is at


@given(values=st.lists(st.tuples(st.none() | st.floats(0, 1), st.booleans()), max_size=200))
@settings(max_examples=60, deadline=None)
def test_DG2_any_history_goes_down_one_at_a_time_and_no_sooner_than_it_may(values: list[tuple[Any, bool]]) -> None:
    machine, since = Machine(LevelSettings(hold=3, dwell=5)), -1000
    for second, (value, firm) in enumerate(values):
        before = machine.level
        moved = machine.step({"errors": Reading(value, firm)}, second)
        assert (moved is None) == (machine.level is before)
        if moved is not None:
            assert (moved.before, moved.after) == (before, machine.level)
            if moved.after < moved.before:
                assert moved.after == before - 1
                assert second - since >= 5
            else:
                assert firm
            since = second


def test_DG2_the_diagram_of_the_page_is_drawn_by_the_machine() -> None:
    drawn = re.search(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram()


def test_DG2_silence_is_no_recovery() -> None:
    machine = Machine(LevelSettings(confirm=1))
    steps(machine, 0.9, 1)
    assert [machine.step({"errors": Reading(None)}, second) for second in range(1, 200)] == [None] * 199


@pytest.mark.parametrize("error", [Degraded("off"), BreakerOpen("open"), Misuse("wrong"), KeyboardInterrupt()])
def test_DG3_refusals_and_cancellations_do_not_feed_the_error_rate(
    levels: Levels, clock: Ticking, error: BaseException
) -> None:
    shop = levels.of("shop")
    for _ in range(100):
        shop.record(error)
    clock.now += 1
    shop.evaluate()
    assert (shop.level, shop.sample.get("errors")) == (NORMAL, None)


def test_DG3_limits_and_full_bulkheads_are_no_errors(levels: Levels, clock: Ticking) -> None:
    shop = levels.of("shop")
    for _ in range(50):
        shop.record(None)
        shop.record(RateLimited("no"))
        shop.record(BulkheadFull("no"))
    clock.now += 1
    shop.evaluate()
    assert (shop.sample["errors"], shop.sample["limited"]) == (0.0, 0.5)


def test_DG3_one_call_in_a_hundred_and_one_in_five_seconds_still_go_the_real_way(
    levels: Levels, clock: Ticking
) -> None:
    shop = levels.of("shop")
    shop.force(SEVERE)
    assert sum(shop.probe() for _ in range(1001)) == 11  # the first, and then 1 in 100
    seen = 0
    for _ in range(100):  # a call a second
        clock.now += 1
        seen += shop.probe()
    assert seen == 20


@pytest.mark.parametrize("asynchronous", [False, True])
def test_DG3_a_function_is_refused_and_comes_back_by_probes(levels: Levels, clock: Ticking, asynchronous: bool) -> None:
    broken, ran = [True], [0]

    def products() -> str:
        ran[0] += 1
        if broken[0]:
            raise Unavailable("database down")
        return "real"

    if asynchronous:

        async def products_async() -> str:
            return products()

        guarded: Callable[[], Any] = levels.degradable("catalogue", fallback="kept")(products_async)
    else:
        guarded = levels.degradable("catalogue", fallback="kept")(products)

    def call() -> str:
        answer: str = asyncio.run(guarded()) if asynchronous else guarded()
        return answer

    for _ in range(30):
        assert call() == "kept"
        clock.now += 0.1
    assert levels.level("catalogue") == "severe"
    at = ran[0]
    for _ in range(100):
        assert call() == "kept"
        clock.now += 0.1
    assert 2 <= ran[0] - at <= 4  # probes, and nothing else
    broken[0] = False
    answers = []
    for _ in range(1200):
        answers.append(call())
        clock.now += 0.1
    assert levels.level("catalogue") == "normal"
    assert answers[-500:] == ["real"] * 500


def test_DG3_without_a_fallback_the_refusal_is_raised(levels: Levels) -> None:
    @levels.degradable("shop")
    def products() -> str:
        return "real"

    assert products() == "real"
    levels.of("shop").force(SEVERE)
    assert products() == "real"  # the first probe
    with pytest.raises(Degraded, match="shop") as refusal:
        products()
    assert refusal.value.retry_after == 5


def test_DG3_streams_are_admitted_and_counted_at_their_end(levels: Levels, clock: Ticking) -> None:
    @levels.policy("rows")
    def rows() -> Any:
        yield 1
        raise Unavailable("gone")

    for _ in range(10):
        with pytest.raises(Unavailable):
            list(rows())
    clock.now += 1
    levels.evaluate()
    assert levels.level("rows") == "severe"
    levels.of("rows").probe()
    with pytest.raises(Degraded):
        list(rows())


def test_DG4_priorities_and_release(levels: Levels, clock: Ticking) -> None:
    shop = levels.of("shop")
    levels.prepare({"shop": {"automatic": "warning"}}).apply()
    assert (shop.level, shop.cause) == (WARNING, "remote")
    shop.pin(ERROR, 60)
    assert (shop.level, shop.cause) == (ERROR, "pin")
    shop.force(NORMAL)
    assert (shop.level, shop.cause) == (NORMAL, "force")
    shop.release()
    assert shop.level is WARNING
    levels.prepare({}).apply()
    assert shop.level is NORMAL


def test_DG4_release_returns_to_what_the_machine_says(levels: Levels, clock: Ticking) -> None:
    shop = levels.of("shop")
    shop.force(NORMAL)
    feed(levels, clock, "shop", 0, 20)
    assert (shop.level, shop.automatic) == (NORMAL, SEVERE)
    shop.release()
    assert (shop.level, shop.cause) == (SEVERE, "released")


def test_DG4_a_pin_ends_by_itself(levels: Levels, clock: Ticking) -> None:
    shop = levels.of("shop")
    shop.pin(SEVERE, 30)
    clock.now += 29.9
    levels.evaluate()
    assert shop.level is SEVERE
    clock.now += 1
    levels.evaluate()
    assert (shop.level, shop.cause) == (NORMAL, "released")


def test_DG4_a_document_pins_until_a_time_and_tells_when_it_ends(levels: Levels, clock: Ticking) -> None:
    shop = levels.of("shop")
    until = "2001-09-09T02:10:00Z"  # 1_000_001_400: 400 s from now
    levels.prepare({"shop": {"pin": {"level": "error", "until": until}}}).apply()
    assert (shop.level, levels.lapse()) == (ERROR, pytest.approx(400))
    clock.now += 401
    assert levels.lapse() is None
    assert shop.level is NORMAL


def test_DG4_what_is_ordered_for_all_is_the_least_of_each(levels: Levels) -> None:
    shop, stock = levels.of("shop"), levels.of("stock")
    stock.force(NORMAL)
    levels.everything.force(ERROR)
    assert (shop.level, shop.cause, stock.level) == (ERROR, "global", NORMAL)
    assert levels.of("later").level is ERROR
    levels.everything.release()
    assert shop.level is NORMAL


def test_DG4_one_resources_errors_do_not_degrade_another(levels: Levels, clock: Ticking) -> None:
    feed(levels, clock, "shop", 0, 50)
    feed(levels, clock, "stock", 10, 0)
    assert levels.words() == {"*": "severe", "shop": "severe", "stock": "normal"}
    spread = Levels(QUICK, spread=True, clock=clock)
    spread.of("stock")
    feed(spread, clock, "shop", 0, 50)
    assert spread.of("stock").level is SEVERE


def test_DG5_each_level_means_something_for_pages_reads_and_writes(levels: Levels) -> None:
    shop = levels.of("shop", actions=Actions(hide={"recommendations": WARNING, "reviews": ERROR}))
    table = []
    for level in Level:
        shop.force(level)
        table.append((shop.read, shop.write, levels.shows("recommendations"), levels.shows("reviews"), shop.static))
    assert table == [
        ("origin", "sync", True, True, False),
        ("origin", "sync", False, True, False),
        ("distributed_cache", "async", False, False, False),
        ("local_cache", "refuse", False, False, True),
    ]
    assert levels.shows("unheard of")
    assert READS == WORDS


def test_DG5_a_read_chain_is_told_how_far_it_may_go_with_a_share_of_probes(levels: Levels) -> None:
    shop = levels.of("shop")
    assert shop.reach() == "origin"
    shop.force(SEVERE)
    assert [shop.reach() for _ in range(101)].count("origin") == 2


def test_DG5_an_unknown_level_keeps_the_old_mapping(levels: Levels) -> None:
    shop = levels.of("shop", actions=Actions(hide={"reviews": ERROR}))
    levels.prepare({"shop": {"actions": {"read": {"warning": "static"}}}}).apply()
    change = levels.prepare({"shop": {"actions": {"read": {"apocalypse": "static"}, "hide": {"reviews": "warning"}}}})
    change.apply()
    shop.force(WARNING)
    assert (shop.read, levels.shows("reviews")) == ("static", False)
    change.undo()
    assert levels.shows("reviews")


def test_DG7_exactly_one_event_a_change_with_cause_and_sample(levels: Levels, clock: Ticking) -> None:
    heard: list[LevelChange] = []
    levels.listen(lambda change: 1 / 0)  # one that fails stops nothing
    leave = levels.listen(heard.append)
    feed(levels, clock, "events", 5, 5, seconds=3)
    feed(levels, clock, "events", 50, 0, seconds=40)
    mine = [change for change in heard if change.resource == "events"]
    assert [(change.number, change.before, change.after, change.cause) for change in mine] == [
        (1, NORMAL, SEVERE, "errors"), (2, SEVERE, ERROR, "recovered"),
        (3, ERROR, WARNING, "recovered"), (4, WARNING, NORMAL, "recovered"),
    ]  # fmt: skip
    assert mine[0].sample["errors"] == 0.5
    leave()
    levels.of("events").force(SEVERE)
    assert len([change for change in heard if change.resource == "events"]) == 4


def test_DG7_threads_make_one_event_a_change(clock: Ticking) -> None:
    levels = Levels(QUICK, clock=clock)
    heard: list[LevelChange] = []
    levels.listen(heard.append)
    shop, gate = levels.of("threads"), threading.Barrier(4)

    def hammer() -> None:
        gate.wait()
        for _ in range(2000):
            shop.record(Unavailable("down"))

    clock.now += 5
    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 1
    levels.evaluate()
    mine = [change for change in heard if change.resource == "threads"]
    assert [change.after for change in mine] == [SEVERE]
    assert shop.sample["failures"] == 8000  # none was lost


def test_DG7_telemetry(levels: Levels) -> None:
    shop = levels.of("told")
    shop.force(ERROR)
    read = {}
    for each in telemetry.snapshot():
        about = dict(each.attributes)
        if about.get("backstay.resource") == "told" and each.name.startswith("backstay.degrade."):
            read[each.name, about.get("backstay.mode") or about.get("backstay.cause")] = each.value
    assert read == {
        ("backstay.degrade.level", "auto"): 0.0,
        ("backstay.degrade.level", "manual"): 2.0,
        ("backstay.degrade.transitions", "force"): 1,
    }


def test_a_switch_turns_itself_off_by_failure_count_and_back_by_probes(levels: Levels, clock: Ticking) -> None:
    switch = levels.of(
        "reviews",
        settings=LevelSettings(
            failures=Bands(error=3), errors=Bands(), timeouts=Bands(), confirm=1, hold=2, dwell=2, window=10
        ),
        actions=Actions(refuse=ERROR),
    )  # fmt: skip
    for _ in range(3):
        assert switch.enabled()
        switch.record(Unavailable("down"))
    clock.now += 1
    switch.evaluate()
    assert [switch.enabled() for _ in range(3)] == [True, False, False]  # one probe
    for _ in range(30):
        clock.now += 1
        switch.record(None)
    assert [switch.enabled() for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"shop": {"force": "awful"}}, "one of normal, warning, error, severe"),
        ({"shop": {"level": "severe"}}, "no setting 'level'"),
        ({"shop": "severe"}, "must be a table"),
        ({"shop": {"pin": {"level": "severe"}}}, "needs level and until"),
        ({"shop": {"pin": {"level": "severe", "until": "22:00"}}}, "a time with its zone"),
        ({"shop": {"thresholds": {"errors": {"warning": 0.3}}}}, "above 0.3"),
        ({"shop": {"thresholds": {"fever": 1}}}, "no setting 'fever'"),
        ({"shop": {"actions": {"read": {"error": "moon"}}}}, "got 'moon'"),
        ({"shop": {"actions": {"read": "static"}}}, "must be a table"),
    ],
)
def test_a_section_that_is_not_understood_changes_nothing(levels: Levels, section: dict[str, Any], text: str) -> None:
    shop = levels.of("shop")
    levels.prepare({"shop": {"force": "error"}}).apply()
    with pytest.raises(Misuse, match=text):
        levels.prepare(section)
    assert shop.level is ERROR


def test_a_document_changes_thresholds_and_leaves_the_others(levels: Levels) -> None:
    shop = levels.of("shop")
    change = levels.prepare({"shop": {"thresholds": {"errors": {"warning": 0.1}, "window": 60}}})
    change.apply()
    assert shop.settings.errors == Bands(warning=0.1, error=0.2, severe=0.5)
    assert (shop.settings.window, shop.settings.hold) == (60, QUICK.hold)
    change.undo()
    assert shop.settings == QUICK


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bands(warning=0.5, error=0.2), lambda: Bands(exit=1.0), lambda: LevelSettings(window=0),
        lambda: LevelSettings(probe_share=0.0), lambda: LevelSettings.of(3), lambda: Levels().of(""),
        lambda: LevelSettings.of({"confirm": 0}), lambda: Actions(write={ERROR: "later"}),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(Misuse):
        make()
