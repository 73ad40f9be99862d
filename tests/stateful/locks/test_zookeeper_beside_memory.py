"""Whose turn it is on ZooKeeper, compared step by step with the table that memory and SQL run."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from backstay.locks.backends.zookeeper.contenders import listed, text_of
from backstay.locks.backends.zookeeper.turn import Ahead, obstacles
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, permits, stripes, whole
from backstay.locks.table import Table

SIZE = 4
FAMILIES: dict[str, st.SearchStrategy[Claim]] = {
    "lock": st.just(MUTEX),
    "read-write lock": st.sampled_from([READ, READ, WRITE]),
    "semaphore": st.integers(1, SIZE).map(lambda count: permits(count, SIZE)),
    "segmented lock": st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=3).map(
        lambda numbers: stripes(numbers, SIZE)
    )
    | st.just(whole(SIZE)),
}
LESS = {WRITE: READ, permits(3, SIZE): permits(1, SIZE), permits(2, SIZE): permits(1, SIZE)}


class Line:
    """The nodes of one resource, in the order of their numbers."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._next = 2**31 - 3  # the numbers wrap round after a few
        self.nodes: dict[str, Ahead] = {}

    def join(self, token: str, claim: Claim) -> None:
        number, self._next = self._next, self._next + 1
        signed = (number + 2**31) % 2**32 - 2**31
        text = f"{signed:010d}" if signed >= 0 else f"-{-signed:09d}"
        (found,) = listed([f"{token}-{text_of(self._resource, claim)}{text}"])
        assert found.token == token
        self.nodes[token] = Ahead(found.node, found.units)

    def holders(self) -> set[str]:
        line = list(self.nodes.items())
        return {
            token
            for place, (token, mine) in enumerate(line)
            if obstacles([ahead for _, ahead in line[:place]], mine.units, SIZE) is None
        }


@settings(max_examples=300)
@given(st.data())
def test_the_same_hold_and_wait_after_every_step(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FAMILIES)))
    resource, fences = Resource("x", kind), iter(range(1, 1000))
    table, line = Table(lambda: next(fences), lambda address, token, fence: True), Line(resource)
    table.size = SIZE
    claims: dict[str, Claim] = {}
    for step in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["take", "take", "leave", "lessen"]))
        if action == "take":
            token = f"host-1-{'a' * 32}-{step}"
            claims[token] = data.draw(FAMILIES[kind])
            table.take(resource, token, claims[token], 1000.0, token, 0.0)
            line.join(token, claims[token])
        elif claims and action == "leave":
            token = data.draw(st.sampled_from(sorted(claims)))
            holder = table.holders.get(token)
            if holder is not None:
                table.release(token, holder.fence, 0.0)
            else:
                table.withdraw(token, False, 0.0)
            del claims[token], line.nodes[token]
        elif claims:
            token = data.draw(st.sampled_from(sorted(claims)))
            holder, less = table.holders.get(token), LESS.get(claims[token])
            if holder is not None and less is not None:
                table.lessen(token, holder.fence, less, 0.0)
                claims[token] = less
                line.nodes[token] = Ahead(line.nodes[token].node, less.units)  # as its data says from now on
        assert line.holders() == set(table.holders)
