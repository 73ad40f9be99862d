"""The rule of granting, as a value: first come, first served, and never more than there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, strategies as st

from backstay.locks.backend import ALIVE, TOMBSTONE, Busy, Freed, Kept
from backstay.locks.claims import MUTEX, READ, WHOLE, WRITE, Claim, Resource, permits, stripes, weigh, whole
from backstay.locks.errors import SizeDiffers
from backstay.locks.table import Table

X = Resource("x", "semaphore")
LONG = 600.0


class Bench:
    """A table, who is there to be told, and what each was told."""

    def __init__(self, *, push: bool = True) -> None:
        self.told: dict[str, int] = {}
        self.absent: set[str] = set()
        self.now = 100.0
        self.table = Table(count(1).__next__, self._tell if push else None)

    def _tell(self, address: str, token: str, fence: int) -> bool:
        assert address == f"@{token}"
        if token in self.absent:
            return False
        self.told[token] = fence
        return True

    def take(self, token: str, claim: Claim, ttl: float = LONG, *, queue: bool = True) -> int | Busy:
        return self.table.take(X, token, claim, ttl, f"@{token}" if queue else "", self.now)

    def queue(self, token: str, claim: Claim) -> None:
        assert isinstance(self.take(token, claim), Busy)

    def hold(self, token: str, claim: Claim, ttl: float = LONG) -> int:
        fence = self.take(token, claim, ttl)
        assert isinstance(fence, int), f"{token} was refused"
        return fence

    def release(self, token: str) -> Freed:
        return self.table.release(token, self.table.holders[token].fence, self.now)

    @property
    def holders(self) -> list[str]:
        return list(self.table.holders)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_F1_every_grant_draws_a_fence_and_a_repeated_take_keeps_it_and_restarts_its_time(bench: Bench) -> None:
    first = bench.hold("a", MUTEX, 10.0)
    bench.now += 6.0
    assert bench.take("a", MUTEX, 10.0) == first  # R5
    bench.now += 6.0
    assert isinstance(bench.take("b", MUTEX), Busy), "16 s after the grant, 6 s after the repetition"
    assert bench.release("a") is Freed.FREED
    assert bench.told["b"] > first


def test_RW1_RW2_readers_share_and_a_waiting_writer_is_not_passed_by_later_readers(bench: Bench) -> None:
    bench.hold("r1", READ)
    bench.hold("r2", READ)
    bench.queue("w", WRITE)
    bench.queue("r3", READ)
    bench.release("r1")
    assert bench.holders == ["r2"]
    bench.release("r2")
    assert bench.holders == ["w"]
    bench.queue("r4", READ)
    bench.queue("w2", WRITE)
    bench.queue("r5", READ)
    bench.release("w")
    assert bench.holders == ["r3", "r4"], "the readers before the next writer enter together"
    assert bench.told["r3"] < bench.told["r4"]


def test_RW3_a_writer_becomes_a_reader_without_a_gap(bench: Bench) -> None:
    fence = bench.hold("w", WRITE)
    bench.queue("r", READ)
    bench.queue("w2", WRITE)
    assert bench.table.lessen("w", fence + 1, READ, bench.now) is Freed.NOT_OWNER
    assert bench.table.lessen("w", fence, READ, bench.now) is Freed.FREED
    assert bench.holders == ["w", "r"]
    assert bench.table.holders["w"].fence == fence


def test_S2_permits_come_all_or_nothing_and_in_order(bench: Bench) -> None:
    bench.hold("a", permits(2, 4))
    bench.queue("b", permits(3, 4))
    bench.queue("c", permits(1, 4))
    assert bench.holders == ["a"], "c would fit, but b came before it"
    bench.release("a")
    assert bench.holders == ["b", "c"]


def test_S1_an_expired_permit_is_free_and_releasing_it_frees_nothing_more(bench: Bench) -> None:
    fence = bench.hold("a", permits(1, 1), 1.0)
    bench.now += 1.0
    bench.hold("b", permits(1, 1))
    assert bench.table.release("a", fence, bench.now) is Freed.NOT_OWNER
    assert bench.table.renew("a", fence, 9.0, bench.now) is Kept.NOT_OWNER
    assert isinstance(bench.take("c", permits(1, 1)), Busy)


def test_S4_more_than_there_is_at_all_is_not_granted_to_the_first_who_comes_either(bench: Bench) -> None:
    assert isinstance(bench.take("a", permits(3, 2), queue=False), Busy)
    assert isinstance(bench.take("b", permits(1, 0), queue=False), int)
    assert isinstance(bench.take("c", permits(2, 0), queue=False), Busy)
    nobody_said = Table(count(1).__next__, None)
    assert isinstance(nobody_said.take(X, "d", permits(1, 0), LONG, "", bench.now), Busy)


def test_S3_growing_wakes_and_shrinking_revokes_nothing(bench: Bench) -> None:
    bench.hold("a", permits(1, 1))
    bench.queue("b", permits(1, 1))
    assert bench.table.resize(2, False, bench.now) == 1
    assert bench.holders == ["a", "b"]
    bench.table.resize(1, False, bench.now)
    assert bench.holders == ["a", "b"]
    bench.release("a")
    assert isinstance(bench.take("c", permits(1, 1)), Busy)
    with pytest.raises(SizeDiffers, match="has size 1 at the store, and this caller says 2"):
        bench.take("d", permits(1, 2))


def test_S3_who_waits_goes_on_after_a_resize_unless_there_is_too_little_for_it(bench: Bench) -> None:
    bench.hold("a", permits(4, 4))
    bench.queue("two", permits(2, 4))
    bench.queue("four", permits(4, 4))
    bench.table.resize(3, False, bench.now)
    bench.queue("two", permits(2, 4))
    with pytest.raises(SizeDiffers):
        bench.take("four", permits(4, 4))
    bench.queue("three", permits(3, 3))
    bench.release("a")
    assert bench.holders == ["two"], "and nobody waits for ever in front of three"
    bench.release("two")
    assert bench.holders == ["three"]


def test_G2_stripes_exclude_each_other_only_where_they_meet(bench: Bench) -> None:
    bench.hold("a", stripes([3, 1, 3], 8))
    bench.hold("b", stripes([2], 8))
    bench.queue("c", stripes([1, 2], 8))
    bench.queue("d", stripes([2, 5], 8))
    bench.hold("e", stripes([6], 8))
    bench.queue("f", stripes([5], 8))  # d waits for 5 and came before
    bench.release("b")
    assert bench.holders == ["a", "e"]
    bench.release("a")
    assert bench.holders == ["e", "c"]
    bench.release("c")
    assert bench.holders == ["e", "d"]


def test_G4_the_whole_lock_waits_for_those_before_it_and_holds_up_those_behind(bench: Bench) -> None:
    bench.hold("a", stripes([0], 4))
    bench.queue("all", whole(4))
    bench.queue("b", stripes([3], 4))
    bench.release("a")
    assert bench.holders == ["all"]
    bench.release("all")
    assert bench.holders == ["b"]


def test_G3_after_a_resize_nothing_is_granted_until_the_old_holders_are_gone(bench: Bench) -> None:
    bench.hold("old", stripes([0], 4))
    bench.queue("stale", stripes([0], 4))
    bench.table.resize(8, True, bench.now)
    with pytest.raises(SizeDiffers):
        bench.take("stale", stripes([0], 4))
    bench.queue("new", stripes([7], 8))
    bench.release("old")
    assert bench.holders == ["new"]


def test_Q3_dead_waiters_are_skipped_and_the_fence_they_did_not_get_is_used(bench: Bench) -> None:
    bench.hold("a", MUTEX)
    for token in ("killed", "stopped", "live"):
        bench.queue(token, MUTEX)
    bench.absent.add("killed")
    bench.now += ALIVE + 0.1
    bench.queue("live", MUTEX)  # it refreshes its entry and keeps its place
    bench.release("a")
    assert bench.holders == ["live"]
    assert bench.told == {"live": 2}


def test_C9_a_withdrawn_token_is_never_granted_anything(bench: Bench) -> None:
    bench.hold("a", MUTEX)
    bench.queue("b", MUTEX)
    bench.table.withdraw("b", True, bench.now)
    assert isinstance(bench.take("b", MUTEX), Busy)
    bench.release("a")
    assert bench.holders == []
    assert isinstance(bench.take("b", MUTEX), Busy), "overtaken by its own withdrawal"
    bench.now += TOMBSTONE
    bench.hold("b", MUTEX)


def test_a_withdrawal_lets_those_behind_it_in(bench: Bench) -> None:
    bench.hold("a", READ)
    bench.queue("w", WRITE)
    bench.queue("r", READ)
    bench.table.withdraw("w", False, bench.now)
    assert bench.holders == ["a", "r"]


def test_without_a_push_what_is_free_is_kept_for_the_first_who_waits() -> None:
    bench = Bench(push=False)
    bench.hold("a", MUTEX)
    bench.queue("b", MUTEX)
    bench.queue("c", MUTEX)
    bench.release("a")
    assert bench.holders == []
    assert isinstance(bench.take("c", MUTEX), Busy)
    assert isinstance(bench.take("late", MUTEX, queue=False), Busy)
    bench.hold("b", MUTEX)
    bench.release("b")
    bench.now += ALIVE + 0.1
    bench.hold("late", MUTEX)  # c was not heard of again


def test_nothing_is_kept_of_a_resource_that_nobody_uses(bench: Bench) -> None:
    bench.hold("a", MUTEX)
    assert not bench.table.idle
    assert bench.table.busy(bench.now)
    bench.release("a")
    assert bench.table.idle


CLAIMS = st.one_of(
    st.just(READ),
    st.just(WRITE),
)
STRIPES = st.one_of(
    st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda numbers: stripes(numbers, 4)),
    st.just(whole(4)),
)
PERMITS = st.integers(1, 4).map(lambda number: permits(number, 4))


@pytest.mark.parametrize("push", [True, False])
@pytest.mark.parametrize("claims", [CLAIMS, STRIPES, PERMITS], ids=["read-write", "segmented", "semaphore"])
def test_S4_never_more_than_there_is_and_nothing_idle_that_somebody_could_have(
    claims: st.SearchStrategy[Claim], push: bool
) -> None:
    step = st.tuples(st.sampled_from(["take", "release", "withdraw", "time", "die"]), st.integers(0, 5), claims)

    @given(st.lists(step, max_size=60))
    def run(steps: list[tuple[str, int, Claim]]) -> None:
        bench = Bench(push=push)
        fences: list[int] = []
        asked: dict[str, Claim] = {}
        for what, number, claim in steps:
            token, freed = f"t{number}", False
            if what == "take":
                bench.absent.discard(token)
                claim = asked.setdefault(token, claim)  # a token is used for one acquisition
                bench.take(token, claim, 3.0)
            elif what == "release" and token in bench.table.holders and bench.table.holders[token].ends > bench.now:
                freed = bench.release(token) is Freed.FREED
                asked.pop(token)
            elif what == "withdraw":
                bench.table.withdraw(token, False, bench.now)
                freed = True
                asked.pop(token, None)
            elif what == "time":
                bench.now += 1.0
            elif what == "die":
                bench.absent.add(token)
            used: dict[str, int] = {}
            standing = {token: each for token, each in bench.table.holders.items() if each.ends > bench.now}
            for each in standing.values():
                weigh(used, each.units)
            assert all(used[unit.label] <= (unit.capacity or 4) for each in standing.values() for unit in each.units), (
                "more than there is"
            )
            fences += [each.fence for each in standing.values() if each.fence not in fences]
            if push and freed and bench.table.queue:
                first = next(iter(bench.table.queue.values()))
                assert not all(used.get(u.label, 0) + u.weight <= (u.capacity or 4) for u in first.units), "idle"
        assert len(fences) == len(set(fences))

    run()


def test_the_whole_is_more_than_any_number_of_sharers() -> None:
    assert WHOLE > 10**9
    check: Callable[[int], bool] = lambda sharers: sharers * WHOLE < 2**53  # noqa: E731  # Lua's numbers are doubles
    assert check(10**6)
