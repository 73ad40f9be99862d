"""Names of contenders, their order, and whose turn it is: the pure half of locks on ZooKeeper."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse
from backstay.locks.backends.zookeeper.contenders import OLD_SIZE, Contender, claim_of, earlier, listed, text_of
from backstay.locks.backends.zookeeper.turn import Ahead, obstacles
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, Unit, fits, permits, stripes, weigh, whole

LOCK = Resource("x")
BOOK = Resource("x", "read-write lock")
POOL = Resource("x", "semaphore")
STRIPED = Resource("x", "segmented lock")

CLAIMS = [
    (LOCK, MUTEX), (BOOK, READ), (BOOK, WRITE), (POOL, permits(3, 8)), (STRIPED, stripes([0, 5, 63], 64)),
    (STRIPED, whole(64)),
]  # fmt: skip


def number(value: int) -> str:
    """As the server writes it: `%010d` of a signed 32-bit integer."""
    return f"{value:010d}" if value >= 0 else "-" + f"{-value:09d}"


@pytest.mark.parametrize(("resource", "claim"), CLAIMS)
@pytest.mark.parametrize("value", [0, 7, 1_234_567_890, 2**31 - 1, -(2**31), -1_234_567_890, -5])
def test_Z1_a_name_carries_the_token_the_whole_claim_and_the_number(
    resource: Resource, claim: Claim, value: int
) -> None:
    node = f"web-3.eu-77-{'0af1' * 8}-12-{text_of(resource, claim)}{number(value)}"
    (found,) = listed([node])
    assert found == Contender(node, f"web-3.eu-77-{'0af1' * 8}-12", value, claim.units, claim.size)


def test_a_claim_without_a_word_is_refused() -> None:
    with pytest.raises(Misuse, match="no word for the claim"):
        text_of(LOCK, READ)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("_c_5f2a0c1e-8a9b-4f2e-9c57-1a2b3c4d5e6f-lock-0000000003", (Unit("", 1, 1),)),
        ("_c_5f2a0c1e-8a9b-4f2e-9c57-1a2b3c4d5e6f-__READ__0000000003", READ.units),
        ("_c_5f2a0c1e-8a9b-4f2e-9c57-1a2b3c4d5e6f-__WRIT__0000000003", WRITE.units),
    ],
)
def test_Z12_curators_nodes_are_read_as_what_they_are(node: str, expected: tuple[Unit, ...]) -> None:
    (found,) = listed([node])
    assert (found.number, found.units) == (3, expected)


@pytest.mark.parametrize("resource_claim", CLAIMS)
@pytest.mark.parametrize("node", ["0a1b2c__lock__0000000003", "x-0000000003", "0a1b__rlock__0000000003"])
def test_Z12_a_strangers_node_is_never_overtaken(node: str, resource_claim: tuple[Resource, Claim]) -> None:
    _, claim = resource_claim
    (found,) = listed([node])
    assert obstacles([Ahead(node, found.units)], claim.units, claim.size) == [node]


def test_a_node_without_a_number_is_no_contender() -> None:
    assert listed(["leases", "config", "x-lock-"]) == []


@given(
    origin=st.integers(-(2**31), 2**31 - 1),
    steps=st.lists(st.integers(-(2**30), 2**30), min_size=1, unique=True),
)
def test_Z2_the_order_holds_where_numbers_wrap_round(origin: int, steps: list[int]) -> None:
    def made(step: int) -> Contender:
        value = (origin + step + 2**31) % 2**32 - 2**31
        return Contender(f"n{step}", f"t{step}", value, MUTEX.units, 0)

    mine = Contender("mine", "mine", origin, MUTEX.units, 0)
    found = earlier([made(step) for step in steps] + [mine], mine)
    assert [each.node for each in found] == [f"n{step}" for step in sorted(steps) if step < 0]


def ahead(*claims: Claim) -> list[Ahead]:
    return [Ahead(str(place), claim.units) for place, claim in enumerate(claims)]


def test_Z3_a_mutex_watches_its_neighbour_only() -> None:
    assert obstacles([], MUTEX.units, 0) is None
    assert obstacles(ahead(*[MUTEX] * 50), MUTEX.units, 0) == ["49"]


def test_RW4_a_reader_watches_the_nearest_writer_before_it_and_a_writer_its_neighbour() -> None:
    assert obstacles(ahead(READ, READ), READ.units, 0) is None
    assert obstacles(ahead(WRITE, READ, READ), READ.units, 0) == ["0"]
    assert obstacles(ahead(WRITE, READ, WRITE, READ), READ.units, 0) == ["2"]
    assert obstacles(ahead(READ, READ, READ), WRITE.units, 0) == ["2"]
    assert obstacles(ahead(WRITE, READ), WRITE.units, 0) == ["1"]


def test_a_permit_waits_for_as_many_neighbours_as_there_are_permits() -> None:
    one = permits(1, 3)
    assert obstacles(ahead(one, one), one.units, 3) is None
    assert obstacles(ahead(one, one, one), one.units, 3) == ["0", "1", "2"]
    assert obstacles(ahead(*[one] * 10), one.units, 3) == ["7", "8", "9"]
    assert obstacles(ahead(one), permits(3, 3).units, 3) == ["0"]


def test_what_can_never_fit_waits_for_nobody_and_has_no_turn() -> None:
    assert obstacles([], permits(3, 2).units, 2) == []


def test_G4_stripes_pass_each_other_and_not_the_whole() -> None:
    assert obstacles(ahead(stripes([1], 4), stripes([2], 4)), stripes([3], 4).units, 4) is None
    assert obstacles(ahead(stripes([1], 4), stripes([2], 4)), stripes([2, 3], 4).units, 4) == ["1"]
    assert obstacles(ahead(stripes([1], 4), whole(4)), stripes([3], 4).units, 4) == ["1"]
    assert obstacles(ahead(stripes([1], 4), stripes([2], 4)), whole(4).units, 4) == ["1"]


def test_G3_whoever_came_at_another_size_fills_everything() -> None:
    before = [Ahead("old", OLD_SIZE)]
    assert obstacles(before, stripes([3], 8).units, 8) == ["old"]
    assert obstacles(before, permits(1, 8).units, 8) == ["old"]


STRIPES = st.sets(st.integers(0, 3), min_size=1).map(lambda numbers: stripes(numbers, 4))
FAMILIES = st.sampled_from(
    [
        st.sampled_from([READ, WRITE]),
        st.integers(1, 4).map(lambda count: permits(count, 4)),
        STRIPES | st.just(whole(4)),
    ]
)


@given(st.data())
def test_while_all_obstacles_stay_nobody_elses_leaving_makes_it_our_turn(data: st.DataObject) -> None:
    family = data.draw(FAMILIES)
    before, mine = ahead(*data.draw(st.lists(family, max_size=8))), data.draw(family)
    watched = obstacles(before, mine.units, 4)
    used: dict[str, int] = {}
    for each in before:
        weigh(used, each.units)
    assert (watched is None) == fits(used, mine.units, 4), "turn is the rule of claims"
    if watched is None:
        return
    assert watched, "somebody is in the way"
    gone = data.draw(st.sets(st.sampled_from([each.node for each in before])))
    left = [each for each in before if each.node not in gone or each.node in watched]
    assert obstacles(left, mine.units, 4) is not None


@given(st.lists(st.integers(1, 3), max_size=12), st.integers(3, 5))
def test_no_herd_a_leaving_permit_wakes_at_most_as_many_as_there_are_permits(counts: list[int], size: int) -> None:
    queue = ahead(*(permits(count, size) for count in counts))
    for place, leaving in enumerate(queue):
        woken = 0
        for later in range(place + 1, len(queue)):
            woken += leaving.node in (obstacles(queue[:later], queue[later].units, size) or [])
        assert woken <= size


def test_claims_read_back_from_data_are_those_that_were_given() -> None:
    for resource, claim in CLAIMS:
        assert claim_of(text_of(resource, claim)) == (claim.units, claim.size)
