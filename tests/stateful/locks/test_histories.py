"""The checker of histories: it accuses no correct lock, finds planted violations, and agrees with an exact search."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from backstay.locks.claims import MUTEX, READ, WRITE, Claim, permits, stripes
from backstay.testing._acquisitions import Acquisition, Outcome, acquisitions
from backstay.testing._search import explainable
from backstay.testing.history import Action, Event, Phase
from backstay.testing.linearizability import Verdict, check
from stateful.locks.ideal import KINDS, Ideal

SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@settings(max_examples=150)
def test_a_correct_lock_is_never_accused(kind: str, seed: int) -> None:
    verdict = check(Ideal(seed, kind).events)
    assert verdict.linearizable is True, verdict


class _Careless(Ideal):
    """Lets everybody in, now and then."""

    def _serve(self) -> None:
        if self.random.random() < 0.3:
            kept, self.used = self.used, {}
            super()._serve()
            self.used = {label: kept.get(label, 0) + self.used.get(label, 0) for label in {*kept, *self.used}}
        else:
            super()._serve()


class _Forgetful(Ideal):
    """Forgets one release for good."""

    def _free(self, claim: Claim) -> None:
        if len(self.events) < 20:
            super()._free(claim)


class _Unfenced(Ideal):
    """Draws the same fence again, now and then."""

    def _serve(self) -> None:
        if self.fence and self.random.random() < 0.2:
            self.fence -= self.random.randint(1, 3)
        super()._serve()


BROKEN: dict[str, tuple[type[Ideal], str]] = {
    "two at once": (_Careless, "exclusion"),
    "a lost release": (_Forgetful, "refusal"),
    "fences that fall": (_Unfenced, "fence"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_lock_is_found_out(fault: str, kind: str) -> None:
    lock, what = BROKEN[fault]
    found = 0
    for seed in range(40):
        verdict = check(lock(seed, kind, faults=False, slow=0.02, rounds=30).events)
        found += what in {violation.what for violation in verdict.violations}
    assert found >= 36, f"found in {found} of 40 histories"


def won(name: str, asked: float, answered: float, claim: Claim = MUTEX, fence: int | None = None) -> list[Event]:
    both = {"client": name, "attempt": name, "resource": "r", "claim": claim}
    return [
        Event(at=asked, phase=Phase.INVOKE, action=Action.ACQUIRE, **both),  # type: ignore[arg-type]
        Event(at=answered, phase=Phase.RETURN, action=Action.ACQUIRE, fence=fence, **both),  # type: ignore[arg-type]
    ]


def freed(name: str, asked: float, answered: float, phase: Phase = Phase.RETURN, why: str = "") -> list[Event]:
    both = {"client": name, "attempt": name, "resource": "r"}
    return [
        Event(at=asked, phase=Phase.INVOKE, action=Action.RELEASE, **both),  # type: ignore[arg-type]
        Event(at=answered, phase=phase, action=Action.RELEASE, why=why, **both),  # type: ignore[arg-type]
    ]


def refused(name: str, asked: float, answered: float, claim: Claim = MUTEX) -> list[Event]:
    both = {"client": name, "attempt": name, "resource": "r", "claim": claim}
    return [
        Event(at=asked, phase=Phase.INVOKE, action=Action.ACQUIRE, **both),  # type: ignore[arg-type]
        Event(at=answered, phase=Phase.FAIL, action=Action.ACQUIRE, why="refused", **both),  # type: ignore[arg-type]
    ]


def only(verdict: Verdict) -> str:
    assert len(verdict.violations) == 1, verdict
    return verdict.violations[0].what


@given(seed=SEEDS, kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=150)
def test_an_intruder_is_found_wherever_somebody_was_surely_inside(seed: int, kind: str) -> None:
    """Between the answer of an acquire and the call that releases, nobody may get in who needs the whole."""
    chance, events = random.Random(seed), Ideal(seed, kind).events
    holds = [
        each
        for each in acquisitions(events)
        if each.outcome is Outcome.WON and each.parts[-1].earliest > each.answered + 0.01
    ]
    for hold in chance.sample(holds, min(2, len(holds))):
        needs = {unit.label: unit._replace(weight=unit.capacity or hold.size) for unit in hold.units}
        claim = Claim(tuple(needs.values()), hold.size)
        start, end = sorted(chance.uniform(hold.answered + 0.001, hold.parts[-1].earliest - 0.001) for _ in range(2))
        assert check([*events, *won("intruder", start, end, claim)]).violations


@given(seed=SEEDS, kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=100)
def test_swapped_fences_are_found(seed: int, kind: str) -> None:
    chance, events = random.Random(seed), Ideal(seed, kind).events
    holds = [each for each in acquisitions(events) if each.outcome is Outcome.WON]
    pairs = [(a, b) for a in holds for b in holds if a.answered < b.asked]
    if pairs:
        first, second = chance.choice(pairs)
        swap = {first.attempt: second.fence, second.attempt: first.fence}
        stale = [
            replace(event, fence=swap[event.attempt]) if event.fence and event.attempt in swap else event
            for event in events
        ]
        assert check(stale).violations


@given(seed=SEEDS, kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=100)
def test_a_release_that_frees_nothing_is_found(seed: int, kind: str) -> None:
    """After everything was given back a try is refused: somebody's release was lost."""
    events = Ideal(seed, kind, faults=False).events
    end = max(event.at for event in events)
    verdict = check([*events, *refused("late", end + 1, end + 2, KINDS[kind][-1])])
    assert only(verdict) == "refusal"


@given(
    seed=SEEDS,
    kind=st.sampled_from(sorted(KINDS)),
    shift=st.floats(-1.0, 1.0),
    fences=st.booleans(),
    total=st.booleans(),
)
@settings(max_examples=400)
def test_it_agrees_with_an_exact_search(seed: int, kind: str, shift: float, fences: bool, total: bool) -> None:
    """Small histories in which one operation was moved, so that many of them cannot be."""
    events = Ideal(seed, kind, clients=3, rounds=2, slow=0.4).events
    moved = random.Random(seed).choice(sorted({event.attempt for event in events}))
    events = [replace(event, at=event.at + shift) if event.attempt == moved else event for event in events]
    if not fences:
        events = [replace(event, fence=None) for event in events]
    found = acquisitions(events)
    exact = explainable(found, [each for each in found if each.outcome is Outcome.REFUSED], 50_000_000, total)
    assert exact is not None
    assert check(events, total_fences=total).linearizable is exact


def test_a_reader_beside_a_writer() -> None:
    history = [*won("w", 0, 1, WRITE, 1), *won("r", 2, 3, READ, 2), *freed("r", 4, 5), *freed("w", 6, 7)]
    assert only(check(history)) == "exclusion"
    assert check([*won("r1", 0, 1, READ, 1), *won("r2", 2, 3, READ, 2), *freed("r1", 4, 5)]).linearizable


def test_more_permits_than_there_are() -> None:
    two = [*won("a", 0, 1, permits(2, 4), 1), *won("b", 2, 3, permits(2, 4), 2), *freed("a", 6, 7), *freed("b", 6, 7)]
    assert check(two).linearizable
    assert only(check([*two, *won("c", 4, 5, permits(1, 4), 3)])) == "exclusion"


def test_F1_a_fence_that_was_drawn_twice() -> None:
    assert only(check([*won("a", 0, 1, fence=7), *freed("a", 2, 3), *won("b", 4, 5, fence=7)])) == "fence"


def test_entering_again_is_no_grant_and_the_last_exit_frees() -> None:
    outer, inner = won("outer", 0, 1, fence=5), won("inner", 2, 3, fence=5)
    both = [replace(event, client="one") for event in (*outer, *inner, *freed("inner", 4, 5), *freed("outer", 6, 7))]
    assert check([*both, *won("next", 6.5, 8, fence=6)]).linearizable
    assert only(check([*both, *won("early", 4.5, 5.5, fence=6)])) == "exclusion"
    other = [replace(event, fence=6) if event.attempt == "inner" and event.fence else event for event in both]
    assert only(check(other)) == "exclusion", "entering again drew a fence: that was a grant beside the first"


def test_fences_that_rise_only_among_those_that_exclude_each_other() -> None:
    """B queues behind A for stripe 1, C is let in to stripe 2 with a later place, and B after it."""
    history = [*won("a", 0, 1, stripes([1], 4), 1), *won("c", 3, 4, stripes([2], 4), 3), *freed("a", 5, 6)]
    queued = [*history, *won("b", 4.5, 7, stripes([1], 4), 2)]
    assert only(check(queued)) == "fence"
    assert check(queued, total_fences=False).linearizable
    assert only(check([*history, *won("b", 4.5, 7, stripes([1, 2], 4), 2)], total_fences=False)) == "fence"
    assert only(check([*history, *won("b", 4.5, 7, stripes([1], 4), 3)], total_fences=False)) == "fence", "drawn twice"


def test_a_lease_that_was_over_when_its_holder_heard_of_it_excludes_nobody() -> None:
    late = won("late", 0, 5, fence=1)
    late[1] = replace(late[1], until=2.0)
    assert check([*late, *won("b", 3, 4, fence=2)]).linearizable
    early = [replace(event, until=20.0) if event.until else event for event in late]
    assert only(check([*early, *won("b", 6, 7, fence=2)])) == "exclusion"


def test_a_writer_that_goes_on_as_a_reader_lets_readers_in_and_no_writer() -> None:
    def lessened(at: float) -> list[Event]:
        both = {"client": "w", "attempt": "w", "resource": "r", "action": Action.LESSEN, "claim": READ}
        return [
            Event(at=at, phase=Phase.INVOKE, **both),  # type: ignore[arg-type]
            Event(at=at + 1, phase=Phase.RETURN, **both),  # type: ignore[arg-type]
        ]

    history = [*won("w", 0, 1, WRITE, 1), *lessened(3.0), *freed("w", 8, 9)]
    assert check([*history, *won("r", 3.5, 5, READ, 2)]).linearizable
    assert only(check([*history, *won("r", 1.5, 2.5, READ, 2)])) == "exclusion"
    assert only(check([*history, *won("x", 5, 6, WRITE, 2)])) == "exclusion"


def test_C5_a_lease_counts_until_its_holder_was_told() -> None:
    holder = won("a", 0, 1, fence=1)
    holder[1] = replace(holder[1], until=10.0)
    told = Event(at=4.0, phase=Phase.LOOK, action=Action.ACQUIRE, client="a", attempt="a", resource="r", valid=False)
    other = won("b", 6, 7, fence=2)
    assert only(check([*holder, *other])) == "exclusion", "the store had promised it until 10"
    assert check([*holder, told, *other]).linearizable
    assert only(check([*holder, replace(told, at=8.0, valid=True), *other])) == "exclusion"
    assert check([*holder, *won("b", 9, 11, fence=2)]).linearizable


def test_an_unknown_outcome_may_have_been_either() -> None:
    lost = won("a", 0, 1)
    lost[1] = replace(lost[1], phase=Phase.UNKNOWN)
    assert check([*lost, *won("b", 2, 3, fence=1)]).linearizable, "it did not happen"
    assert check([*lost, *refused("b", 2, 3)]).linearizable, "it did"
    ended = [replace(event, ttl=2.0) for event in lost]
    late = refused("b", 20, 21)
    assert check([*ended, *late]).linearizable
    assert only(check([*ended, *late], linger=1.0)) == "refusal", "it must have ended long ago"
    unanswered = [*won("a", 0, 1, fence=1), *freed("a", 2, 3, Phase.UNKNOWN)]
    assert check([*unanswered, *won("b", 4, 5, fence=2)]).linearizable
    assert check([*unanswered, *refused("b", 4, 5)]).linearizable


def test_the_dead_hold_for_their_ttl_and_no_longer() -> None:
    holder = [replace(event, ttl=5.0) for event in won("a", 0, 1, fence=1)]
    dead = Event(at=10.0, phase=Phase.RETURN, action=Action.DIE, client="a")
    assert check([*holder, dead, *refused("b", 14, 15)], linger=1.0).linearizable
    assert only(check([*holder, dead, *refused("b", 17, 18)], linger=1.0)) == "refusal"


def test_who_waits_may_be_the_reason_for_a_refusal_only_if_somebody_holds() -> None:
    one, three = permits(1, 4), permits(3, 4)
    waiting = [*won("a", 0, 1, permits(2, 4), 1), *refused("b", 2, 6, three)]
    assert check([*waiting, *refused("c", 3, 5, one)]).linearizable, "b came first and waits for a"
    nobody = [*refused("b", 2, 6, three), *refused("c", 3, 5, one)]
    assert {violation.what for violation in check(nobody).violations} == {"refusal"}


def test_who_gives_up_may_have_been_granted_just_then() -> None:
    holder = [*won("a", 0, 1), *freed("a", 3, 3.1)]
    gave_up, other = refused("b", 2, 4), refused("c", 3.2, 3.9)
    assert check([*holder, *gave_up, *other]).linearizable
    both = check([*holder, *refused("b", 3.2, 4), *other]).violations
    assert {violation.what for violation in both} == {"refusal"}, "each would have to explain the other"


def _busy(kind: str) -> Sequence[Event]:
    return Ideal(1, kind, clients=16, rounds=625, slow=0.05).events


@pytest.mark.parametrize("kind", KINDS)
def test_10000_operations_are_judged_in_seconds(kind: str) -> None:
    events = _busy(kind)
    start = time.process_time()
    verdict = check(events)
    assert time.process_time() - start < 15.0
    assert verdict.acquisitions == 10_000
    assert verdict.violations == ()
    assert len(verdict.undecided) <= 2


Plant = Callable[[pytest.MonkeyPatch], None]


def _no_room_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backstay.testing._witness.fits", lambda *_: True)


def _ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    right = acquisitions

    def short(events: Sequence[Event], linger: float) -> list[Acquisition]:
        return [
            replace(each, parts=tuple(replace(part, earliest=each.asked) for part in each.parts))
            for each in right(events, linger)
        ]

    monkeypatch.setattr("backstay.testing.linearizability.acquisitions", short)


@pytest.mark.parametrize("plant", [_no_room_needed, _ends_at_once])
def test_a_checker_that_finds_nothing_is_noticed(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_reader_beside_a_writer()
