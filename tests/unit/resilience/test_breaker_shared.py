"""What follows from the opinions of other instances, without a store (CB-9)."""

from __future__ import annotations

from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.circuit_breaker import CircuitBreaker, State
from backstay.resilience.circuit_breaker.shared import SharedBreakers
from backstay.resilience.circuit_breaker.shared.member import Member
from backstay.resilience.circuit_breaker.shared.opinion import Answer, override_from, override_text, quorum
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import by_function, run


class Instance:
    """One breaker, and what it would tell and hear."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("payments", consecutive=2, open_for=10, open_jitter=0, clock=self.clock)
        self.call = by_function(self.breaker)
        self.member = Member(self.breaker.circuit, share=0.5)

    def hear(self, live: int, opened: int, **more: Any) -> None:
        self.member.question()
        self.member.hear(Answer(live=live, open=opened, **more))


@pytest.mark.parametrize(
    ("live", "share", "needed"),
    [(1, 0.5, 2), (2, 0.5, 2), (3, 0.5, 2), (4, 0.5, 3), (5, 0.5, 3), (10, 0.9, 10), (9, 0.1, 2)],
)
def test_CB9_a_quorum_is_more_than_the_share_and_at_least_two(live: int, share: float, needed: int) -> None:
    assert quorum(live, share) == needed


def test_CB9_opens_with_the_quorum_and_closes_when_it_is_gone() -> None:
    instance = Instance()
    instance.hear(4, 2)
    assert instance.breaker.state is State.CLOSED
    instance.hear(4, 3)
    assert instance.breaker.state is State.OPEN
    assert not instance.member.question().is_open  # it only heard of it: no echo
    instance.hear(4, 2)
    assert instance.breaker.state is State.CLOSED


def test_CB9_an_instance_with_failures_of_its_own_stays_open_without_a_quorum() -> None:
    instance = Instance()
    run(instance.call, "--")
    assert instance.member.question().is_open
    instance.hear(10, 1)
    assert instance.breaker.state is State.OPEN


def test_CB9_an_operator_who_opens_one_instance_casts_no_vote() -> None:
    instance = Instance()
    instance.breaker.open()
    assert not instance.member.question().is_open


def test_CB9_probes_wait_for_permits_of_the_cluster() -> None:
    instance = Instance()
    run(instance.call, "--")
    instance.hear(3, 1)
    instance.clock.advance(10)
    assert run(instance.call, "++") == "xx"  # its wait is over, and nobody has granted a probe
    assert instance.member.question().wanted == 3
    instance.member.hear(Answer(live=3, open=1, granted=1))
    assert run(instance.call, "+") == "+"  # one is enough to decide a round of one
    assert instance.breaker.state is State.CLOSED


def test_CB9_a_failed_round_holds_the_probes_of_all_for_the_wait_that_follows() -> None:
    instance = Instance()
    run(instance.call, "--")
    instance.clock.advance(10)
    instance.hear(3, 1, granted=3)
    run(instance.call, "-")
    asked = instance.member.question()
    assert (asked.hold, asked.held, asked.wanted) == (10, 0, 0)
    assert instance.member.question().hold == 0  # said once


def test_CB9_permits_are_kept_while_it_probes_and_given_back_after() -> None:
    instance = Instance()
    run(instance.call, "--")
    instance.clock.advance(10)
    instance.hear(3, 1, granted=3)
    with instance.breaker.admission():
        assert instance.member.question().held == 3
        instance.clock.advance(100)
        assert instance.member.question().held == 3
    run(instance.call, "++")
    assert instance.breaker.state is State.CLOSED
    assert instance.member.question().held == 0


def test_CB9_permits_that_no_call_uses_go_to_another_instance() -> None:
    instance = Instance()
    run(instance.call, "--")
    instance.clock.advance(10)
    instance.hear(3, 1, granted=3)
    instance.clock.advance(1.75)
    assert instance.member.question().held == 3
    instance.clock.advance(0.25)
    asked = instance.member.question()
    assert (asked.held, asked.wanted) == (0, 0)
    assert run(instance.call, "+") == "x"
    assert instance.member.question().wanted == 3


def test_CB9_whoever_has_proved_it_is_not_reopened_by_those_who_have_not() -> None:
    instance = Instance()
    instance.hear(5, 3)
    instance.clock.advance(10)
    instance.hear(5, 3, granted=3)
    assert run(instance.call, "+++") == "+++"
    instance.hear(5, 3)
    assert instance.breaker.state is State.CLOSED
    instance.hear(5, 2)
    instance.hear(5, 3)  # another quorum
    assert instance.breaker.state is State.OPEN


def test_CB9_a_lost_store_leaves_a_breaker_that_is_purely_local() -> None:
    instance = Instance()
    run(instance.call, "--")
    instance.hear(3, 1)
    instance.clock.advance(10)
    assert run(instance.call, "+") == "x"
    instance.member.lose()
    assert run(instance.call, "+++") == "+++"
    assert instance.breaker.state is State.CLOSED


@pytest.mark.parametrize("state", [State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY])
def test_CB9_an_override_wins_over_all_and_ends_in_closed(state: State) -> None:
    instance = Instance()
    instance.hear(3, 3, override=state)
    assert instance.breaker.state is state
    instance.breaker.close()  # what is done locally does not last
    instance.hear(3, 3, override=state)
    assert instance.breaker.state is state
    instance.hear(3, 0)
    assert instance.breaker.state is State.CLOSED


@pytest.mark.parametrize("state", [State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY])
def test_CB9_what_an_operator_did_here_is_not_undone_by_a_quorum(state: State) -> None:
    instance = Instance()
    {State.FORCED_OPEN: instance.breaker.force_open, State.DISABLED: instance.breaker.disable}.get(
        state, instance.breaker.metrics_only
    )()
    instance.hear(3, 3)
    instance.hear(3, 0)
    assert instance.breaker.state is state


def test_a_stored_override_carries_its_format_and_a_newer_one_is_left_alone() -> None:
    assert override_from(override_text(State.DISABLED)) is State.DISABLED
    for text in ("", "x", "{}", "[]", "7", '{"v": 2, "state": "disabled"}', '{"v": 1, "state": "closed"}',
                 '{"v": 1, "state": "sideways"}', '{"v": null, "state": "disabled"}'):  # fmt: skip
        assert override_from(text) is None


@pytest.mark.parametrize("state", [State.CLOSED, State.OPEN, State.HALF_OPEN, "disabled", None])
def test_only_what_holds_on_all_instances_can_be_an_override(state: Any) -> None:
    with pytest.raises(Misuse, match=r"an override is one of State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY"):
        override_text(state)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"namespace": "a b"}, "namespace must be 1 to 100 characters"),
        ({"namespace": ""}, "namespace must be 1 to 100 characters"),
        ({"interval": 0}, "interval must be above 0 s"),
        ({"interval": 2.0, "ttl": 3.0}, "must be at least two intervals"),
        ({"share": 0}, "share must be above 0"),
        ({"budget": -1}, "budget must be above 0 s"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        SharedBreakers.connect("redis://localhost/0", **options)


def test_only_a_breaker_with_a_name_that_fits_a_key_can_join_and_one_a_name() -> None:
    shared = SharedBreakers.connect("redis://localhost/0", interval=None)
    anything: Any = "payments"
    with pytest.raises(Misuse, match="join takes a CircuitBreaker"):
        shared.join(anything)
    with pytest.raises(Misuse, match="a shared breaker's name"):
        shared.join(CircuitBreaker("the {payments} service"))
    breaker = shared.join(CircuitBreaker("payments"))
    assert shared.join(breaker) is breaker
    with pytest.raises(Misuse, match="another breaker 'payments' has joined"):
        shared.join(CircuitBreaker("payments"))
