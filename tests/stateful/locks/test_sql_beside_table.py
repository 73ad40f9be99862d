"""Rows and the table that they keep are one set of rules: a history reads the same from SQLite and from memory."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from backstay.blocking import drive
from backstay.locks.backend import ALIVE, Busy, Renewal
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, permits, stripes, whole
from backstay.locks.errors import SizeDiffers
from backstay.locks.table import Table
from unit.locks.sqlite_rows import Clock, backend

SPACE = "beside"
CLAIMS: dict[Resource, list[Claim]] = {
    Resource("m"): [MUTEX],
    Resource("r", "read-write lock"): [READ, WRITE],
    Resource("s", "semaphore"): [permits(1, 3), permits(2, 3), permits(1, 2), permits(1, 0)],
    Resource("g", "segmented lock"): [stripes([0], 4), stripes([1, 2], 4), stripes([0, 3], 4), whole(4)],
}
RESOURCES = st.sampled_from(list(CLAIMS))
TOKENS = st.sampled_from([f"host-1-{'0' * 32}-{n}" for n in range(5)])
TTLS = st.sampled_from([0.5, 3.0, 20.0])
STEPS = st.sampled_from([0.01, 0.4, 1.7, 2.6, 5.2, 61.0])


class BesideTable(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="backstay-beside-"))
        self.clock = Clock()
        self.sql = backend(self.directory, self.clock, SPACE)
        self.fence: dict[Resource, int] = {}
        self.tables: dict[Resource, Table] = {resource: Table(self._draw(resource), None) for resource in CLAIMS}

    def _draw(self, resource: Resource) -> Callable[[], int]:
        def draw() -> int:
            self.fence[resource] = max(self.fence.get(resource, 0) + 1, round(self.clock.now * 1e6))
            return self.fence[resource]

        return draw

    def teardown(self) -> None:
        drive(self.sql.close())
        shutil.rmtree(self.directory)

    @rule(seconds=STEPS)
    def pass_time(self, seconds: float) -> None:
        self.clock.now = round(self.clock.now + seconds, 3)

    @rule(resource=RESOURCES, token=TOKENS, ttl=TTLS, pick=st.integers(0, 3), queue=st.booleans())
    def take(self, resource: Resource, token: str, ttl: float, pick: int, queue: bool) -> None:
        claim = CLAIMS[resource][pick % len(CLAIMS[resource])]
        table, now, address = self.tables[resource], self.clock.now, "asks" if queue else ""
        before, waits = copy.deepcopy(table), table.queue.get(token)
        heard = 0.0 if waits is None else waits.alive
        ours: Any
        theirs: Any
        try:
            ours = table.take(resource, token, claim if waits is None else claim._replace(size=0), ttl, address, now)
        except SizeDiffers as refused:
            ours = (refused.said, refused.size)
            self.tables[resource] = before  # what raises is not written
        else:
            if isinstance(ours, Busy) and (token not in table.queue or heard - now > ALIVE / 2):
                before.draw = table.draw
                self.tables[resource] = before  # nor what need not be
        try:
            theirs = drive(self.sql.take(resource, token, claim, ttl, address, 5.0))
        except SizeDiffers as refused:
            theirs = (refused.said, refused.size)
        if isinstance(ours, Busy):
            assert isinstance(theirs, Busy), (ours, theirs)
            assert (ours.waiters, ours.owner) == (theirs.waiters, theirs.owner)
            assert (ours.left is None) == (theirs.left is None)
            if ours.left is not None and theirs.left is not None:
                assert abs(ours.left - theirs.left) < 0.002
        else:
            assert theirs == ours
        self._same(resource)

    @rule(resource=RESOURCES, token=TOKENS, old=st.booleans())
    def release(self, resource: Resource, token: str, old: bool) -> None:
        fence = self._fence(resource, token) - old
        theirs = drive(self.sql.release(resource, token, fence, 5.0))
        assert theirs is self.tables[resource].release(token, fence, self.clock.now)
        self._same(resource)

    @rule(resource=RESOURCES, token=TOKENS, ttl=TTLS, old=st.booleans())
    def renew(self, resource: Resource, token: str, ttl: float, old: bool) -> None:
        fence = self._fence(resource, token) - old
        theirs = drive(self.sql.renew([Renewal(resource, token, fence, ttl)], 5.0))
        assert theirs == [self.tables[resource].renew(token, fence, ttl, self.clock.now)]
        self._same(resource)

    @rule(token=TOKENS)
    def downgrade(self, token: str) -> None:
        resource = Resource("r", "read-write lock")
        fence = self._fence(resource, token)
        theirs = drive(self.sql.lessen(resource, token, fence, READ, 5.0))
        assert theirs is self.tables[resource].lessen(token, fence, READ, self.clock.now)
        self._same(resource)

    @rule(resource=RESOURCES, token=TOKENS, in_flight=st.booleans())
    def withdraw(self, resource: Resource, token: str, in_flight: bool) -> None:
        drive(self.sql.withdraw(resource, token, in_flight, 5.0))
        self.tables[resource].withdraw(token, in_flight, self.clock.now)
        self._same(resource)

    @rule(size=st.integers(1, 4), drain=st.booleans())
    def resize(self, size: int, drain: bool) -> None:
        resource = Resource("g", "segmented lock") if drain else Resource("s", "semaphore")
        theirs = drive(self.sql.resize(resource, size, drain, 5.0))
        assert theirs == self.tables[resource].resize(size, drain, self.clock.now)
        self._same(resource)

    def _fence(self, resource: Resource, token: str) -> int:
        holder = self.tables[resource].holders.get(token)
        return self.fence.get(resource, 1) if holder is None else holder.fence

    def _same(self, resource: Resource) -> None:
        ours = copy.deepcopy(self.tables[resource]).survey(self.clock.now)
        theirs = drive(self.sql.inspect(resource, 5.0))
        assert theirs.size == ours.size
        assert [(each.token, each.units, each.fence) for each in theirs.holders] == [
            (each.token, each.units, each.fence) for each in ours.holders
        ]
        assert theirs.waiters == ours.waiters


TestSqlBesideTable = BesideTable.TestCase
TestSqlBesideTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
