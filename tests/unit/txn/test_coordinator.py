"""T1 to T8 by the blocking face over a SQLite journal, with actions that write down what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backstay.blocking import drive
from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.txn import (
    AlreadyCancelled,
    AlreadyConfirmed,
    Backoff,
    BranchState,
    Outcome,
    Settings,
    State,
    StillInFlight,
    Tcc,
    TransactionCancelled,
    TransactionManager,
    TryFailed,
    TryRefused,
)
from backstay.txn.errors import JournalUnanswered
from backstay.txn.journal import TransactionRecord
from backstay.txn.tcc.states import Event
from unit.txn.conftest import Recorded


def record(manager: TransactionManager, gtrid: str) -> TransactionRecord:
    found = drive(manager.company.journal.read(gtrid))
    assert found is not None
    return found


def test_leaving_the_block_well_confirms_every_branch(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    stock.answers["try"] = [{"hold": 1}]
    with manager.tcc() as tx:
        assert tx.call(stock.action, sku="a") == {"hold": 1}
        assert tx.call(payments.action) is None
        assert tx.state is State.TRYING
    assert log[:2] == ["try stock", "try payments"]
    assert sorted(log[2:]) == ["confirm payments", "confirm stock"]
    assert tx.state is State.CONFIRMED
    assert manager.outcome(tx.gtrid) is Outcome.CONFIRMED


def test_an_exception_cancels_in_reverse_order_and_is_raised_again(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    with pytest.raises(LookupError, match="the block"), manager.tcc() as tx:
        tx.call(stock.action)
        tx.call(payments.action)
        raise LookupError("the block failed")
    assert log == ["try stock", "try payments", "cancel payments", "cancel stock"]
    assert manager.outcome(tx.gtrid) is Outcome.CANCELLED
    assert "LookupError: the block failed" in record(manager, tx.gtrid).reason


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupt_cancels_as_well(
    manager: TransactionManager, stock: Recorded, log: list[str], error: BaseException
) -> None:
    with pytest.raises(type(error)), manager.tcc() as tx:
        tx.call(stock.action)
        raise error
    assert log == ["try stock", "cancel stock"]
    assert tx.state is State.CANCELLED


def test_a_refusal_cancels_the_others_and_tells_the_reason(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    payments.answers["try"] = [TryRefused("insufficient funds", detail={"missing": "3.10"})]
    with (
        pytest.raises(TryRefused, match="branch 2 payments refused: insufficient funds") as refused,
        manager.tcc() as tx,
    ):
        tx.call(stock.action)
        tx.call(payments.action)
    assert refused.value.reason == "insufficient funds"
    assert refused.value.detail == {"missing": "3.10"}
    # The branch that refused is cancelled too: a copy of its try may still be on its way.
    assert log == ["try stock", "try payments", "cancel payments", "cancel stock"]
    found = record(manager, tx.gtrid)
    assert (found.refused, found.state) == (True, State.CANCELLED)
    assert [one.state for one in found.branches] == [BranchState.CANCELLED] * 2


def test_an_unknown_try_is_cancelled_with_the_others(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    payments.answers["try"] = [ZeroDivisionError("boom")]
    with pytest.raises(TryFailed, match="ZeroDivisionError: boom") as failed, manager.tcc() as tx:
        tx.call(stock.action)
        tx.call(payments.action)
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert log[2:] == ["cancel payments", "cancel stock"]
    assert tx.state is State.CANCELLED


def test_a_swallowed_failure_cannot_be_confirmed(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    stock.answers["try"] = [TryRefused("sold out")]
    with pytest.raises(TryRefused, match="sold out"), manager.tcc() as tx:
        with pytest.raises(TryRefused):
            tx.call(stock.action)
        with pytest.raises(TryRefused):  # nothing is sent any more
            tx.call(payments.action)
    assert log == ["try stock", "cancel stock"]
    assert tx.state is State.CANCELLED


def test_T2_a_branch_is_in_the_journal_before_its_try(manager: TransactionManager, stock: Recorded) -> None:
    seen: list[Any] = []

    def look(branch: Any) -> None:
        found = record(manager, branch.gtrid)
        seen.append((found.state, [one.state for one in found.branches]))

    stock.answers["try"] = [look, look]
    with manager.tcc() as tx:
        tx.call(stock.action)
        tx.call(stock.action)
    assert seen == [
        (State.TRYING, [BranchState.LOGGED]),
        (State.TRYING, [BranchState.TRIED, BranchState.LOGGED]),
    ]


def test_T5_the_decision_is_in_the_journal_before_any_confirm(manager: TransactionManager, stock: Recorded) -> None:
    seen: list[State] = []
    stock.answers["confirm"] = [lambda branch: seen.append(record(manager, branch.gtrid).state)]
    with manager.tcc() as tx:
        tx.call(stock.action)
    assert seen == [State.CONFIRMING]


def test_parallel_tries_start_together_and_answer_in_order(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    stock.answers["try"], payments.answers["try"] = ["s"], ["p"]
    with manager.tcc() as tx:
        assert tx.parallel((stock.action, {"n": 1}), (payments.action, {})) == ["s", "p"]
        assert tx.parallel() == []
    assert len(log) == 4
    assert [one.target.address for one in record(manager, tx.gtrid).branches] == ["stock", "payments"]


def test_of_parallel_tries_the_first_failure_is_told_when_all_have_answered(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    stock.answers["try"] = [TryRefused("first")]
    payments.answers["try"] = [ZeroDivisionError("second")]
    with pytest.raises(TryRefused, match="first"), manager.tcc() as tx:
        tx.parallel((stock.action, {}), (payments.action, {}))
    assert sorted(log[:2]) == ["try payments", "try stock"]
    assert log[2:] == ["cancel payments", "cancel stock"]


def test_an_empty_block_writes_nothing(manager: TransactionManager) -> None:
    with manager.tcc(key="empty") as tx:
        assert tx.gtrid.startswith("tcc-")
    assert manager.find("empty") is None


# --- phase two -------------------------------------------------------------------------------------


def test_one_failing_branch_does_not_stop_the_others(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    stock.answers["confirm"] = [LookupError("down")] * 3
    with manager.tcc() as tx:
        tx.call(stock.action)
        tx.call(payments.action)
    branches = {one.target.address: one for one in record(manager, tx.gtrid).branches}
    assert branches["payments"].state is BranchState.CONFIRMED
    assert log.count("confirm payments") == 1


def test_a_confirm_that_refuses_is_repeated_never_turned_into_cancel(
    connect: Callable[..., TransactionManager], stock: Recorded, log: list[str]
) -> None:
    manager = connect(patience=0.0)
    stock.answers["confirm"] = [TryRefused("I changed my mind"), ZeroDivisionError("down")]
    with manager.tcc() as tx:
        tx.call(stock.action)
    assert manager.outcome(tx.gtrid) is Outcome.CONFIRMED  # decided is told, before it is carried out
    for _ in range(3):
        drive(manager.company.journal.retry(tx.gtrid, None))
        manager.recover()
    assert log == ["try stock", "confirm stock", "confirm stock", "confirm stock"]
    assert record(manager, tx.gtrid).state is State.CONFIRMED


def test_a_branch_is_dead_after_its_budget_and_comes_back_by_retry(
    connect: Callable[..., TransactionManager], stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    manager = connect(patience=0.0, backoff=Backoff(first=0.001, cap=0.001, attempts=2))
    stock.answers["cancel"] = [LookupError("down")] * 2
    with pytest.raises(KeyError), manager.tcc() as tx:
        tx.call(stock.action)
        tx.call(payments.action)
        raise KeyError
    for _ in range(2):
        drive(manager.company.journal.retry(tx.gtrid, "none such"))  # due now, whatever the backoff said
        manager.recover()
    found = record(manager, tx.gtrid)
    assert [one.state for one in found.branches] == [BranchState.DEAD, BranchState.CANCELLED]
    assert (found.state, found.branches[0].attempts, found.branches[0].error) == (
        State.CANCELLING,
        2,
        "unknown: LookupError: down",
    )
    before = len(log)
    manager.recover()
    assert len(log) == before  # parked: nobody asks any more
    assert drive(manager.company.journal.retry(tx.gtrid, None)) == 1
    manager.recover()
    assert record(manager, tx.gtrid).state is State.CANCELLED


# --- keys ------------------------------------------------------------------------------------------


def test_a_key_runs_once_and_answers_with_its_stored_result(
    manager: TransactionManager, stock: Recorded, log: list[str]
) -> None:
    with manager.tcc(key="basket:1") as tx:
        tx.call(stock.action)
        tx.result = {"order": 17}
    with pytest.raises(AlreadyConfirmed) as again, manager.tcc(key="basket:1"):
        pytest.fail("the block must not run")
    assert (again.value.gtrid, again.value.result, again.value.key) == (tx.gtrid, {"order": 17}, "basket:1")
    assert log == ["try stock", "confirm stock"]


def test_a_key_that_was_cancelled_tells_why(manager: TransactionManager, stock: Recorded) -> None:
    stock.answers["try"] = [TryRefused("sold out")]
    with pytest.raises(TryRefused), manager.tcc(key="basket:1") as tx:
        tx.call(stock.action)
    with pytest.raises(AlreadyCancelled, match="sold out") as again, manager.tcc(key="basket:1"):
        pytest.fail("the block must not run")
    assert (again.value.gtrid, again.value.refused) == (tx.gtrid, True)


def test_a_key_that_is_in_flight_says_when_to_ask_again(manager: TransactionManager, stock: Recorded) -> None:
    with manager.tcc(key="basket:1") as tx:
        tx.call(stock.action)
        with pytest.raises(StillInFlight) as again, manager.tcc(key="basket:1"):
            pytest.fail("the block must not run")
        assert again.value.gtrid == tx.gtrid
        assert again.value.retry_after is not None
        assert 0 < again.value.retry_after <= 30


def test_two_blocks_that_enter_with_one_key_at_once_run_once(
    manager: TransactionManager, stock: Recorded, payments: Recorded, log: list[str]
) -> None:
    with manager.tcc(key="basket:1") as first:
        with pytest.raises(StillInFlight), manager.tcc(key="basket:1") as second:  # neither has logged a branch
            first.call(stock.action)
            second.call(payments.action)
    assert log == ["try stock", "confirm stock"]


# --- deadlines, leases, journal trouble ------------------------------------------------------------


def test_the_deadline_stops_a_block_that_is_late(manager: TransactionManager, stock: Recorded, log: list[str]) -> None:
    with pytest.raises(TransactionCancelled, match="deadline"), manager.tcc(deadline=0.000_001) as tx:
        tx.call(stock.action)
    assert log == []
    with pytest.raises(Misuse):
        manager.outcome(tx.gtrid)


def test_a_decision_after_the_deadline_is_cancel(
    connect: Callable[..., TransactionManager], stock: Recorded, log: list[str]
) -> None:
    manager = connect(deadline=0.3)

    def until_late(branch: Any) -> None:
        while record(manager, branch.gtrid).deadline_in >= 0:
            pass

    stock.answers["try"] = [until_late]
    with pytest.raises(TransactionCancelled, match="deadline"), manager.tcc() as tx:
        tx.call(stock.action)
    assert log == ["try stock", "cancel stock"]
    assert manager.outcome(tx.gtrid) is Outcome.CANCELLED


def test_I3_a_coordinator_that_was_fenced_cannot_confirm(
    connect: Callable[..., TransactionManager], stock: Recorded, log: list[str]
) -> None:
    paused, other = connect(), connect()
    with pytest.raises(TransactionCancelled, match="took it over"), paused.tcc() as tx:
        tx.call(stock.action)
        lease = drive(other.company.cast.seat.take())
        drive(other.company.journal.fence(lease))
        assert other.recover() == 1
    assert log == ["try stock", "cancel stock"]
    assert paused.outcome(tx.gtrid) is Outcome.CANCELLED
    # It takes a new lease, with a higher epoch, and goes on.
    assert drive(paused.company.cast.seat.renew()) is False
    with paused.tcc() as again:
        again.call(stock.action)
    assert again.state is State.CONFIRMED
    assert record(paused, again.gtrid).lease.epoch == 2


class _Silent:
    """A journal whose decisions are not answered; the write is done or not."""

    def __init__(self, manager: TransactionManager, monkeypatch: pytest.MonkeyPatch, *, done: bool, times: int) -> None:
        journal: Any = manager.company.journal
        self.asked = 0
        decide = journal.decide

        async def silent(*arguments: Any, **options: Any) -> Any:
            self.asked += 1
            if self.asked > times:
                return await decide(*arguments, **options)
            if done:
                await decide(*arguments, **options)
            raise JournalUnanswered("connection lost")

        monkeypatch.setattr(journal, "decide", silent)


@pytest.mark.parametrize("done", [True, False])
def test_an_unanswered_decision_is_asked_again(
    manager: TransactionManager, stock: Recorded, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    silent = _Silent(manager, monkeypatch, done=done, times=1)
    with manager.tcc() as tx:
        tx.call(stock.action)
    assert silent.asked == 2
    assert tx.state is State.CONFIRMED


@pytest.mark.parametrize("done", [True, False])
def test_I4_a_decision_that_stays_unanswered_is_unknown_and_can_be_asked_for(
    connect: Callable[..., TransactionManager],
    stock: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    log: list[str],
    done: bool,
) -> None:
    manager = connect(journal_patience=0.0)
    with monkeypatch.context() as patched:
        _Silent(manager, patched, done=done, times=99)
        with pytest.raises(OutcomeUnknown) as unknown, manager.tcc() as tx:
            tx.call(stock.action)
    assert unknown.value.ask == {"gtrid": tx.gtrid}
    told = manager.outcome(tx.gtrid)
    assert told is (Outcome.CONFIRMED if done else Outcome.IN_DOUBT)
    manager.recover()
    assert manager.outcome(tx.gtrid) is (Outcome.CONFIRMED if done else Outcome.CANCELLED)
    assert log[-1] == ("confirm stock" if done else "cancel stock")


def test_a_decision_that_certainly_was_not_written_is_no_riddle(
    connect: Callable[..., TransactionManager], stock: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = connect(journal_patience=0.0)

    async def refuse(*arguments: Any, **options: Any) -> Any:
        raise Unavailable("no connection")

    with monkeypatch.context() as patched:
        patched.setattr(manager.company.journal, "decide", refuse)
        with pytest.raises(Unavailable, match="will be cancelled"), manager.tcc() as tx:
            tx.call(stock.action)
    manager.recover()
    assert manager.outcome(tx.gtrid) is Outcome.CANCELLED


def test_the_callers_error_is_raised_although_the_cancel_was_not_written(
    connect: Callable[..., TransactionManager], stock: Recorded, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    manager = connect(journal_patience=0.0)
    with monkeypatch.context() as patched:
        _Silent(manager, patched, done=False, times=99)
        with pytest.raises(LookupError), manager.tcc() as tx:
            tx.call(stock.action)
            raise LookupError
    manager.recover()  # finds it undecided, and no block runs it
    assert manager.outcome(tx.gtrid) is Outcome.CANCELLED
    assert log == ["try stock", "cancel stock"]


@pytest.mark.parametrize("done", [True, False])
def test_T2_a_branch_that_was_not_surely_logged_is_not_tried(
    manager: TransactionManager, stock: Recorded, monkeypatch: pytest.MonkeyPatch, log: list[str], done: bool
) -> None:
    journal: Any = manager.company.journal
    open_transaction = journal.open

    async def silent(*arguments: Any) -> bool:
        if done:
            await open_transaction(*arguments)
        raise JournalUnanswered("connection lost")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "open", silent)
        with pytest.raises(Unavailable, match="no try was sent"), manager.tcc(key="k") as tx:
            tx.call(stock.action)
    assert log == []
    found = manager.find("k")
    assert (found is not None) is done
    if found is not None:  # it certainly was not sent, so its cancel need not be either
        assert (found.gtrid, found.state) == (tx.gtrid, State.CANCELLED)


# --- recovery --------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [Event.DECIDE_CONFIRM, Event.DECIDE_CANCEL, None])
def test_recovery_finishes_what_a_dead_coordinator_left(
    connect: Callable[..., TransactionManager], stock: Recorded, log: list[str], event: Event | None
) -> None:
    dead, living = connect(), connect()
    coordinator = dead.company.cast.coordinator
    work = drive(coordinator.begin("k", None))
    drive(coordinator.call(work, [dead.company.call(stock.action, {})]))
    if event is not None:
        drive(dead.company.journal.decide(work.lease, work.gtrid, event))
    drive(dead.company.journal.leave(work.lease))  # as when its lease has run out
    assert living.recover() == 1
    confirmed = event is Event.DECIDE_CONFIRM
    assert living.outcome(work.gtrid) is (Outcome.CONFIRMED if confirmed else Outcome.CANCELLED)
    assert log == ["try stock", "confirm stock" if confirmed else "cancel stock"]
    assert living.recover() == 0


def test_recovery_keeps_its_hands_off_running_blocks(
    manager: TransactionManager, stock: Recorded, log: list[str]
) -> None:
    with manager.tcc() as tx:
        tx.call(stock.action)
        assert manager.recover() == 0
    assert tx.state is State.CONFIRMED
    assert log == ["try stock", "confirm stock"]


def test_recovery_keeps_its_hands_off_a_block_that_begins_while_it_looks(
    manager: TransactionManager, stock: Recorded, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    journal: Any = manager.company.journal
    due = journal.due
    begun = manager.tcc()

    async def look(lease: Any, active: Any, limit: int) -> Any:
        begun.__enter__()  # between recovery's look at the running blocks and its look at the journal
        begun.call(stock.action)
        return await due(lease, active, limit)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "due", look)
        manager.recover()
    begun.__exit__(None, None, None)
    assert begun.state is State.CONFIRMED
    assert log == ["try stock", "confirm stock"]


def test_an_action_that_this_process_lacks_is_left_and_does_not_stop_the_others(
    connect: Callable[..., TransactionManager], journal: str, stock: Recorded, payments: Recorded
) -> None:
    whole = connect(patience=0.0)  # decided, and not one confirm sent
    for key in ("one", "two"):
        with whole.tcc(key=key) as tx:
            tx.call(payments.action if key == "one" else stock.action)
    drive(whole.company.journal.leave(drive(whole.company.cast.seat.take())))
    quiet = Settings(recovery=False)
    with TransactionManager.connect(journal, actions=[stock.action], settings=quiet) as partial:
        assert partial.recover() == 2
        left, finished = partial.find("one"), partial.find("two")
    assert left is not None
    assert finished is not None
    assert (left.state, finished.state) == (State.CONFIRMING, State.CONFIRMED)
    branch = record(whole, left.gtrid).branches[0]
    assert "no action 'payments'" in (branch.error or "")


# --- misuse ----------------------------------------------------------------------------------------


def test_misuse_is_told_before_anything_is_sent(manager: TransactionManager, stock: Recorded, log: list[str]) -> None:
    with manager.tcc() as tx:
        with pytest.raises(Misuse, match="plain JSON"):
            tx.call(stock.action, amount={1, 2})
        with pytest.raises(Misuse, match="expected an action, or a URL"):
            tx.call("stock")
        with pytest.raises(Misuse, match="actions="):
            tx.call(Tcc("other", try_=print, confirm=print, cancel=print))
        with pytest.raises(Misuse, match="no action"):
            nothing: Any = print
            tx.call(nothing)
    assert log == []
    with pytest.raises(Misuse, match="runs once"), tx:
        pytest.fail("not entered")
    with pytest.raises(Misuse, match="deadline"), manager.tcc(deadline=0):
        pytest.fail("not entered")
    with pytest.raises(Misuse, match="key"), manager.tcc(key=""):
        pytest.fail("not entered")
    with pytest.raises(Misuse, match="enter the transaction"):
        manager.tcc().call(stock.action)
    with pytest.raises(Misuse, match="no transaction 'tcc-0'"):
        manager.outcome("tcc-0")


def test_a_payload_that_does_not_fit_an_action_is_refused_at_once(journal: str) -> None:
    def reserve(branch: Any, *, sku: str) -> None: ...

    action = Tcc("typed", try_=reserve, confirm=reserve, cancel=reserve)
    with TransactionManager.connect(journal, actions=[action]) as manager, manager.tcc() as tx:
        with pytest.raises(Misuse, match="try of action 'typed' does not take this payload \\(sku, amount\\)"):
            tx.call(action, sku="a", amount=1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("journal.db", "no database URL"),
        ("sqlite://", "forgets"),
        ("sqlite:///:memory:", "forgets"),
        ("oracle://x/y", "use SQLite, PostgreSQL"),
        ("postgresql://u:hunter2@host:port/db", "no database URL"),
    ],
)
def test_a_wrong_journal_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(Misuse, match=said) as refused:
        TransactionManager.connect(url)
    assert "hunter2" not in str(refused.value)


def test_two_actions_of_one_name_are_refused(journal: str, stock: Recorded) -> None:
    other = Tcc("stock", try_=print, confirm=print, cancel=print)
    with pytest.raises(Misuse, match="two actions are named 'stock'"):
        TransactionManager.connect(journal, actions=[stock.action, other])


def test_an_async_action_needs_the_async_manager(journal: str) -> None:
    async def serve(branch: Any) -> None: ...

    action = Tcc("async", try_=serve, confirm=serve, cancel=serve)
    quiet = Settings(recovery=False, patience=0.0)
    with TransactionManager.connect(journal, actions=[action], settings=quiet) as manager:
        with pytest.raises(TryFailed, match="AsyncTransactionManager"), manager.tcc() as tx:
            tx.call(action)


def test_importing_the_package_needs_no_sqlalchemy() -> None:
    import subprocess
    import sys

    code = "import sys, backstay.txn; sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'httpx', 'typer')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
