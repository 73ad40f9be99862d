"""The contracts of the transaction package's ports: the journal, and the barrier of a participant.

No test waits: leases that have run out are taken with a negative time to live, deadlines that have passed are
set in the past.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from backstay.txn.errors import BarrierAlarm, PayloadMismatch, TryRefused
from backstay.txn.journal import BranchRecord, BranchUpdate, Journal, Lease
from backstay.txn.tcc.states import BranchEvent, BranchState, Event, State
from backstay.txn.values import Branch, Phase, Target

__all__ = ["BarrierContract", "JournalContract"]

T = TypeVar("T")

_HOUR = 3600.0


def _branch(number: int, address: str = "http://stock/reservations") -> BranchRecord:
    kind = "http" if "://" in address else "action"
    return BranchRecord(
        id=str(number), position=number, target=Target(kind=kind, address=address), payload=f'{{"n":{number}}}'
    )


def _gtrid() -> str:
    return f"contract-{secrets.token_hex(8)}"


def _done(event: BranchEvent, *ids: str) -> list[BranchUpdate]:
    return [BranchUpdate(id=one, event=event) for one in ids]


class JournalContract:
    """Subclass it, and give `run`."""

    def run(self, work: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        """Run `work` to its end on an empty, prepared journal, close the journal, and return the result."""
        raise NotImplementedError

    # -- leases

    def test_a_lease_is_renewed_and_a_given_back_one_is_not(self) -> None:
        async def work(journal: Journal) -> tuple[bool, bool]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            renewed = await journal.renew(lease, _HOUR)
            await journal.leave(lease)
            return renewed, await journal.renew(lease, _HOUR)

        assert self.run(work) == (True, False)

    def test_joining_again_gives_a_higher_epoch_and_ends_the_old_lease(self) -> None:
        async def work(journal: Journal) -> tuple[int, int, bool]:
            old = await journal.join("host-1-a", 1, _HOUR)
            new = await journal.join("host-1-a", 1, _HOUR)
            return old.epoch, new.epoch, await journal.renew(old, _HOUR)

        assert self.run(work) == (1, 2, False)

    def test_the_time_is_the_databases_in_seconds(self) -> None:
        async def work(journal: Journal) -> tuple[float, float]:
            return await journal.time(), await journal.time()

        first, second = self.run(work)
        assert 1.7e9 < first <= second < 1e10

    # -- T1 to T4

    def test_T1_T2_a_transaction_is_logged_with_its_branches_before_anything_else(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            assert await journal.open(lease, gtrid, "basket:1", 30.0, [_branch(1), _branch(2, "reserve")])
            found = await journal.read(gtrid)
            assert found is not None
            assert (found.state, found.key, found.lease, found.lease_alive) == (State.TRYING, "basket:1", lease, True)
            assert [(one.id, one.state, one.payload) for one in found.branches] == [
                ("1", BranchState.LOGGED, '{"n":1}'),
                ("2", BranchState.LOGGED, '{"n":2}'),
            ]
            assert found.branches[1].target == Target(kind="action", address="reserve")
            assert 25 < found.deadline_in <= 30
            assert found.ended_for is None

        self.run(work)

    def test_a_key_is_taken_once_and_nothing_is_written_for_the_second(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            first, second = _gtrid(), _gtrid()
            assert await journal.open(lease, first, "basket:1", 30.0, [_branch(1)])
            assert not await journal.open(lease, second, "basket:1", 30.0, [_branch(1)])
            assert await journal.open(lease, _gtrid(), "Basket:1", 30.0, [_branch(1)])  # keys are exact
            assert await journal.open(lease, _gtrid(), None, 30.0, [_branch(1)])
            assert await journal.open(lease, _gtrid(), None, 30.0, [_branch(1)])
            assert await journal.read(second) is None
            found = await journal.find("basket:1")
            assert found is not None
            assert found.gtrid == first
            assert await journal.find("basket:2") is None

        self.run(work)

    def test_T2_a_branch_joins_and_T4_results_ride_along(self) -> None:
        async def work(journal: Journal) -> list[BranchState]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            assert await journal.enlist(lease, gtrid, [_branch(2)], _done(BranchEvent.TRY_DONE, "1"))
            found = await journal.read(gtrid)
            assert found is not None
            return [one.state for one in found.branches]

        assert self.run(work) == [BranchState.TRIED, BranchState.LOGGED]

    @pytest.mark.parametrize("event", [Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL])
    def test_T5_no_branch_joins_after_the_decision(self, event: Event) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.decide(lease, gtrid, event)
            assert not await journal.enlist(lease, gtrid, [_branch(2)], [])
            found = await journal.read(gtrid)
            assert found is not None
            assert len(found.branches) == 1

        self.run(work)

    # -- T5

    @pytest.mark.parametrize("first", [Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL])
    def test_I3_the_first_decision_stays(self, first: Event) -> None:
        async def work(journal: Journal) -> tuple[State | None, ...]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            second = Event.DECIDE_CANCEL if first is Event.DECIDE_CONFIRM else Event.DECIDE_CONFIRM
            return tuple([await journal.decide(lease, gtrid, event) for event in (first, second, first)])

        state = State.CONFIRMING if first is Event.DECIDE_CONFIRM else State.CANCELLING
        assert self.run(work) == (state,) * 3

    def test_T5_keeps_reason_refusal_result_and_tries(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, "k", 30.0, [_branch(1)])
            tried = [BranchUpdate(id="1", event=BranchEvent.TRY_REFUSED, error="sold out")]
            await journal.decide(
                lease, gtrid, Event.DECIDE_CANCEL, tried=tried, reason="no" * 2000, refused=True, result='{"a":1}'
            )
            found = await journal.read(gtrid)
            assert found is not None
            assert (found.refused, found.result, found.reason) == (True, '{"a":1}', ("no" * 2000)[:1000])
            assert (found.branches[0].state, found.branches[0].error) == (BranchState.REFUSED, "sold out")

        self.run(work)

    def test_T5_confirm_needs_time_before_the_deadline(self) -> None:
        async def work(journal: Journal) -> tuple[State | None, State | None]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, -1.0, [_branch(1)])
            confirm = await journal.decide(lease, gtrid, Event.DECIDE_CONFIRM)
            return confirm, await journal.decide(lease, gtrid, Event.DECIDE_CANCEL)

        assert self.run(work) == (State.TRYING, State.CANCELLING)

    def test_deciding_what_is_not_there_says_so(self) -> None:
        async def work(journal: Journal) -> State | None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            return await journal.decide(lease, _gtrid(), Event.DECIDE_CONFIRM)

        assert self.run(work) is None

    # -- fencing

    def test_I3_a_coordinator_whose_lease_was_taken_cannot_decide(self) -> None:
        async def work(journal: Journal) -> None:
            paused = await journal.join("host-1-paused", 1, -1.0)
            gtrid = _gtrid()
            await journal.open(paused, gtrid, None, 30.0, [_branch(1)])
            other = await journal.join("host-2-other", 1, _HOUR)
            assert await journal.take_over(other, 5.0, 10) == [gtrid]
            assert await journal.decide(paused, gtrid, Event.DECIDE_CONFIRM) is State.CANCELLING
            assert not await journal.renew(paused, _HOUR)
            assert not await journal.enlist(paused, gtrid, [_branch(2)], [])

        self.run(work)

    def test_I3_a_lease_that_is_gone_cannot_confirm_even_what_nobody_took(self) -> None:
        async def work(journal: Journal) -> State | None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.leave(lease)
            return await journal.decide(lease, gtrid, Event.DECIDE_CONFIRM)

        assert self.run(work) is State.TRYING

    def test_a_decision_that_was_first_stands_after_a_take_over(self) -> None:
        async def work(journal: Journal) -> None:
            paused = await journal.join("host-1-paused", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(paused, gtrid, None, 30.0, [_branch(1)])
            assert await journal.decide(paused, gtrid, Event.DECIDE_CONFIRM) is State.CONFIRMING
            await journal.leave(paused)
            other = await journal.join("host-2-other", 1, _HOUR)
            assert await journal.take_over(other, 5.0, 10) == [gtrid]
            found = await journal.read(gtrid)
            assert found is not None
            assert (found.state, found.lease) == (State.CONFIRMING, other)

        self.run(work)

    def test_take_over_leaves_the_living_alone(self) -> None:
        async def work(journal: Journal) -> None:
            living = await journal.join("host-1-a", 1, _HOUR)
            other = await journal.join("host-2-b", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(living, gtrid, None, 30.0, [_branch(1)])
            assert await journal.take_over(other, 5.0, 10) == []
            assert await journal.decide(living, gtrid, Event.DECIDE_CONFIRM) is State.CONFIRMING
            assert await journal.take_over(other, 5.0, 10) == []

        self.run(work)

    def test_take_over_cancels_what_missed_its_deadline_by_more_than_the_grace(self) -> None:
        async def work(journal: Journal) -> None:
            living = await journal.join("host-1-a", 1, _HOUR)
            other = await journal.join("host-2-b", 1, _HOUR)
            late, later = _gtrid(), _gtrid()
            await journal.open(living, late, None, -2.0, [_branch(1)])
            await journal.open(living, later, None, -60.0, [_branch(1)])
            assert await journal.take_over(other, 30.0, 10) == [later]
            assert await journal.decide(living, later, Event.DECIDE_CONFIRM) is State.CANCELLING
            assert await journal.take_over(living, 1.0, 10) == [late]  # its own as well

        self.run(work)

    def test_two_recoverers_never_take_the_same_transaction(self) -> None:
        async def work(journal: Journal) -> None:
            dead = await journal.join("host-1-dead", 1, -1.0)
            gtrids = sorted(_gtrid() for _ in range(5))
            for gtrid in gtrids:
                await journal.open(dead, gtrid, None, 30.0, [_branch(1)])
            one = await journal.join("host-2-a", 1, _HOUR)
            two = await journal.join("host-3-b", 1, _HOUR)
            first = await journal.take_over(one, 5.0, 3)
            second = await journal.take_over(two, 5.0, 10)
            assert (len(first), len(second)) == (3, 2)
            assert sorted([*first, *second]) == gtrids
            assert await journal.take_over(one, 5.0, 10) == []

        self.run(work)

    def test_fence_takes_over_from_the_living_too(self) -> None:
        async def work(journal: Journal) -> None:
            living = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(living, gtrid, None, 30.0, [_branch(1)])
            other = await journal.join("host-2-b", 1, _HOUR)
            assert await journal.fence(other) == 1
            assert await journal.take_over(other, 5.0, 10) == [gtrid]
            assert await journal.renew(other, _HOUR)

        self.run(work)

    # -- T7, T8

    @pytest.mark.parametrize("event", [Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL])
    def test_T7_T8_the_last_acknowledgement_ends_the_transaction(self, event: Event) -> None:
        confirm = event is Event.DECIDE_CONFIRM
        acked = BranchEvent.CONFIRM_ACKED if confirm else BranchEvent.CANCEL_ACKED

        async def work(journal: Journal) -> tuple[State | None, ...]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1), _branch(2)])
            await journal.decide(lease, gtrid, event)
            first = await journal.settle(gtrid, _done(acked, "1"), 0.0)
            second = await journal.settle(gtrid, _done(acked, "2"), 0.0)
            found = await journal.read(gtrid)
            assert found is not None
            assert found.ended_for is not None
            return first, second, await journal.settle(gtrid, _done(acked, "1", "2"), 0.0)

        decided = State.CONFIRMING if confirm else State.CANCELLING
        ended = State.CONFIRMED if confirm else State.CANCELLED
        assert self.run(work) == (decided, ended, ended)

    def test_an_acknowledgement_never_ends_the_other_decision(self) -> None:
        async def work(journal: Journal) -> State | None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.decide(lease, gtrid, Event.DECIDE_CONFIRM)
            return await journal.settle(gtrid, _done(BranchEvent.CANCEL_ACKED, "1"), 0.0)

        assert self.run(work) is State.CONFIRMING

    def test_failed_attempts_are_counted_and_the_next_pass_waits(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1), _branch(2)])
            await journal.decide(lease, gtrid, Event.DECIDE_CONFIRM)
            failed = BranchUpdate(id="2", event=None, error="x" * 2000)
            await journal.settle(gtrid, [*_done(BranchEvent.CONFIRM_ACKED, "1"), failed], 60.0)
            found = await journal.read(gtrid)
            assert found is not None
            assert [(one.state, one.attempts) for one in found.branches] == [
                (BranchState.CONFIRMED, 0),
                (BranchState.LOGGED, 1),
            ]
            assert found.branches[1].error == "x" * 1000
            assert 55 < found.due_in <= 60
            assert await journal.due(lease, (), 10) == []
            assert await journal.retry(gtrid, None) == 1
            assert [one.gtrid for one in await journal.due(lease, (), 10)] == [gtrid]

        self.run(work)

    def test_a_dead_branch_is_parked_and_visible_until_an_operator_retries(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.decide(lease, gtrid, Event.DECIDE_CANCEL)
            spent = BranchUpdate(id="1", event=BranchEvent.SPENT, error="HTTP 500")
            assert await journal.settle(gtrid, [spent], float("inf")) is State.CANCELLING
            assert await journal.due(lease, (), 10) == []
            assert [one.branches[0].state for one in await journal.unfinished(10)] == [BranchState.DEAD]
            assert await journal.retry(None, None) == 1
            (found,) = await journal.due(lease, (), 10)
            assert (found.branches[0].state, found.branches[0].attempts) == (BranchState.LOGGED, 0)

        self.run(work)

    def test_retry_moves_nothing_that_is_undecided_or_ended(self) -> None:
        async def work(journal: Journal) -> int:
            lease = await journal.join("host-1-a", 1, _HOUR)
            await journal.open(lease, _gtrid(), None, 30.0, [_branch(1)])
            return await journal.retry(None, None)

        assert self.run(work) == 0

    def test_due_are_own_transactions_that_no_block_runs(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            other = await journal.join("host-2-b", 1, _HOUR)
            running, abandoned, decided, foreign = (_gtrid() for _ in range(4))
            for gtrid in (running, abandoned, decided):
                await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.open(other, foreign, None, 30.0, [_branch(1)])
            await journal.decide(lease, decided, Event.DECIDE_CONFIRM)
            found = await journal.due(lease, {running}, 10)
            assert {one.gtrid for one in found} == {abandoned, decided}
            assert all(len(one.branches) == 1 for one in found)
            assert len(await journal.due(lease, {running}, 1)) == 1

        self.run(work)

    # -- clean-up

    def test_only_what_ended_long_ago_counts_as_ended_and_is_purged(self) -> None:
        async def work(journal: Journal) -> None:
            lease = await journal.join("host-1-a", 1, _HOUR)
            ended, unfinished, unknown = _gtrid(), _gtrid(), _gtrid()
            for gtrid in (ended, unfinished):
                await journal.open(lease, gtrid, f"key {gtrid}", 30.0, [_branch(1)])
                await journal.decide(lease, gtrid, Event.DECIDE_CONFIRM)
            await journal.settle(ended, _done(BranchEvent.CONFIRM_ACKED, "1"), 0.0)
            everything = [ended, unfinished, unknown]
            assert await journal.ended(everything, 3600.0) == []
            assert await journal.ended(everything, -10.0) == [ended]
            assert await journal.purge(3600.0, 10) == 0
            assert await journal.purge(-10.0, 10) == 1
            assert await journal.read(ended) is None
            assert await journal.find(f"key {ended}") is None
            assert [one.gtrid for one in await journal.recent(10)] == [unfinished]

        self.run(work)

    def test_preparing_again_changes_nothing(self) -> None:
        async def work(journal: Journal) -> list[str]:
            lease = await journal.join("host-1-a", 1, _HOUR)
            gtrid = _gtrid()
            await journal.open(lease, gtrid, None, 30.0, [_branch(1)])
            await journal.prepare()
            return [one.gtrid for one in await journal.unfinished(10) if one.gtrid == gtrid and one.lease == lease]

        assert len(self.run(work)) == 1

    def test_a_stranger_to_the_journal_owns_nothing(self) -> None:
        async def work(journal: Journal) -> None:
            stranger = Lease(owner="host-9-z", epoch=4)
            gtrid = _gtrid()
            await journal.open(stranger, gtrid, None, 30.0, [_branch(1)])
            assert await journal.decide(stranger, gtrid, Event.DECIDE_CONFIRM) is State.TRYING
            lease = await journal.join("host-1-a", 1, _HOUR)
            assert await journal.take_over(lease, 5.0, 10) == [gtrid]

        self.run(work)


_RUNS, _REPEATS, _REFUSES, _ALARMS = "runs", "repeats", "refuses", "alarms"

_HISTORIES = {
    "nothing": (),
    "tried": (Phase.TRY,),
    "confirmed": (Phase.TRY, Phase.CONFIRM),
    "cancelled": (Phase.TRY, Phase.CANCEL),
    "suspended": (Phase.CANCEL,),
}
# The truth table of section 3.2.2, written down a second time on purpose: the suite must not ask the table.
_EXPECTED = {
    Phase.TRY: (_RUNS, _REPEATS, _REPEATS, _REFUSES, _REFUSES),
    Phase.CONFIRM: (_ALARMS, _RUNS, _REPEATS, _ALARMS, _ALARMS),
    Phase.CANCEL: (_REPEATS, _RUNS, _ALARMS, _REPEATS, _REPEATS),
}


def _cells() -> Iterator[tuple[str, Phase, str]]:
    for phase, row in _EXPECTED.items():
        for history, expected in zip(_HISTORIES, row, strict=True):
            yield history, phase, expected


class BarrierContract:
    """Subclass it, and give `call`."""

    def call(self, branch: Branch, function: Callable[[Branch], Any]) -> Any:
        """Open a transaction, have the barrier call `function` in it, commit; roll back on an exception."""
        raise NotImplementedError

    def _send(self, gtrid: str, phase: Phase, ran: list[Phase], result: Any = None, **payload: Any) -> Any:
        def function(branch: Branch) -> Any:
            ran.append(branch.phase)
            return result

        branch = Branch(gtrid=gtrid, id="1", phase=phase, payload=payload or {"sku": "a"})
        return self.call(branch, function)

    @pytest.mark.parametrize(("history", "phase", "expected"), list(_cells()))
    def test_B2_the_truth_table(self, history: str, phase: Phase, expected: str) -> None:
        gtrid, ran = _gtrid(), list[Phase]()
        for earlier in _HISTORIES[history]:
            self._send(gtrid, earlier, [])
        if expected == _REFUSES:
            with pytest.raises(TryRefused, match="late try"):
                self._send(gtrid, phase, ran)
        elif expected == _ALARMS:
            with pytest.raises(BarrierAlarm):
                self._send(gtrid, phase, ran)
        else:
            self._send(gtrid, phase, ran)
        assert ran == ([phase] if expected == _RUNS else [])
        # Whatever it answered, a copy of the request changes nothing.
        again = list[Phase]()
        if expected in (_RUNS, _REPEATS):
            self._send(gtrid, phase, again)
        assert again == []

    def test_a_late_try_is_refused_after_a_null_cancel(self) -> None:
        gtrid, ran = _gtrid(), list[Phase]()
        self._send(gtrid, Phase.CANCEL, ran)
        for _ in range(2):
            with pytest.raises(TryRefused):
                self._send(gtrid, Phase.TRY, ran)
        self._send(gtrid, Phase.CANCEL, ran)
        assert ran == []

    def test_a_repeated_try_answers_with_the_stored_result(self) -> None:
        gtrid, ran = _gtrid(), list[Phase]()
        assert self._send(gtrid, Phase.TRY, ran, {"reserved": 3}) == {"reserved": 3}
        assert self._send(gtrid, Phase.TRY, ran, {"reserved": 99}) == {"reserved": 3}
        self._send(gtrid, Phase.CONFIRM, ran)
        assert self._send(gtrid, Phase.TRY, ran) == {"reserved": 3}
        assert ran == [Phase.TRY, Phase.CONFIRM]

    @pytest.mark.parametrize("phase", [Phase.CONFIRM, Phase.CANCEL])
    def test_confirm_and_cancel_see_what_try_returned(self, phase: Phase) -> None:
        gtrid, seen = _gtrid(), list[Any]()
        self._send(gtrid, Phase.TRY, [], {"hold": 17})
        branch = Branch(gtrid=gtrid, id="1", phase=phase, payload={"sku": "a"})
        self.call(branch, lambda filled: seen.append(filled.result))
        assert seen == [{"hold": 17}]

    @pytest.mark.parametrize("phase", [Phase.TRY, Phase.CONFIRM, Phase.CANCEL])
    def test_another_payload_under_the_same_id_is_an_error(self, phase: Phase) -> None:
        gtrid, ran = _gtrid(), list[Phase]()
        self._send(gtrid, Phase.TRY, [], sku="a", quantity=1)
        with pytest.raises(PayloadMismatch):
            self._send(gtrid, phase, ran, sku="a", quantity=2)
        assert ran == []
        self._send(gtrid, Phase.CANCEL, ran, quantity=1, sku="a")  # the order of keys is no difference
        assert ran == [Phase.CANCEL]

    @pytest.mark.parametrize("phase", [Phase.TRY, Phase.CONFIRM, Phase.CANCEL])
    def test_a_failed_function_leaves_no_trace_and_the_next_copy_runs(self, phase: Phase) -> None:
        gtrid, ran = _gtrid(), list[Phase]()
        if phase is not Phase.TRY:
            self._send(gtrid, Phase.TRY, [])

        def fail(branch: Branch) -> Any:
            raise LookupError(branch.phase)

        branch = Branch(gtrid=gtrid, id="1", phase=phase, payload={"sku": "a"})
        with pytest.raises(LookupError):
            self.call(branch, fail)
        self._send(gtrid, phase, ran)
        assert ran == [phase]

    def test_a_refused_try_leaves_no_trace_and_its_cancel_is_null(self) -> None:
        gtrid, ran = _gtrid(), list[Phase]()

        def refuse(branch: Branch) -> Any:
            raise TryRefused("sold out")

        with pytest.raises(TryRefused, match="sold out"):
            self.call(Branch(gtrid=gtrid, id="1", phase=Phase.TRY, payload={"sku": "a"}), refuse)
        self._send(gtrid, Phase.CANCEL, ran)
        with pytest.raises(TryRefused, match="late try"):  # a copy that arrives when there is stock again
            self._send(gtrid, Phase.TRY, ran)
        assert ran == []

    def test_branches_and_transactions_do_not_meet(self) -> None:
        one, two, ran = _gtrid(), _gtrid(), list[Phase]()
        self._send(one, Phase.CANCEL, ran)
        self._send(two, Phase.TRY, ran)
        other = Branch(gtrid=one, id="2", phase=Phase.TRY, payload={})
        self.call(other, lambda branch: ran.append(branch.phase))
        assert ran == [Phase.TRY, Phase.TRY]

    def test_a_try_of_a_transaction_older_than_the_barriers_memory_is_refused(self) -> None:
        ran = list[Phase]()
        old = f"tcc-contract-1-{1_700_000_000:x}-{secrets.token_hex(8)}"
        with pytest.raises(TryRefused, match="late try"):
            self._send(old, Phase.TRY, ran)
        self._send(old, Phase.CANCEL, ran)
        assert ran == []
