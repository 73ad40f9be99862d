"""The asyncio face: the same core, so only what differs: tasks, cancellation, colours of actions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Misuse, Unavailable
from backstay.txn import (
    AlreadyConfirmed,
    AsyncTransactionManager,
    Branch,
    Outcome,
    Settings,
    State,
    Tcc,
    TryFailed,
    TryRefused,
)

QUIET = Settings(recovery=False, patience=0.2, timeout=0.2)


class Colours:
    """Actions of both colours that write down what they are asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.threads: set[str] = set()
        self.hang = asyncio.Event()
        self.plain = Tcc("plain", try_=self._plain, confirm=self._plain, cancel=self._plain)
        self.coloured = Tcc("async", try_=self._async, confirm=self._async, cancel=self._async)
        self.hanging = Tcc("hanging", try_=self._hang, confirm=self._async, cancel=self._async)
        self.refusing = Tcc("refusing", try_=self._refuse, confirm=self._async, cancel=self._async)

    def _plain(self, branch: Branch) -> str:
        self.threads.add(threading.current_thread().name)
        self.log.append(f"{branch.phase.value} plain")
        return "plain"

    async def _async(self, branch: Branch) -> str:
        self.log.append(f"{branch.phase.value} async")
        return "async"

    async def _hang(self, branch: Branch) -> None:
        self.log.append(f"{branch.phase.value} hanging")
        await self.hang.wait()

    async def _refuse(self, branch: Branch) -> None:
        raise TryRefused("no", detail=7)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[AsyncTransactionManager, Colours], Coroutine[Any, Any, None]]], None]:
    def start(work: Callable[[AsyncTransactionManager, Colours], Coroutine[Any, Any, None]]) -> None:
        async def body() -> None:
            colours = Colours()
            actions = [colours.plain, colours.coloured, colours.hanging, colours.refusing]
            url = f"sqlite:///{tmp_path}/journal.db"
            async with AsyncTransactionManager.connect(url, actions=actions, settings=QUIET) as manager:
                await work(manager, colours)

        asyncio.run(body())

    return start


def test_actions_of_both_colours_and_a_key(run: Callable[..., None]) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        async with manager.tcc(key="k") as tx:
            assert await tx.call(colours.plain) == "plain"
            assert await tx.parallel((colours.coloured, {}), (colours.plain, {})) == ["async", "plain"]
            tx.result = [1]
        assert tx.state is State.CONFIRMED
        assert threading.main_thread().name not in colours.threads  # the loop was not blocked
        with pytest.raises(AlreadyConfirmed) as again:
            async with manager.tcc(key="k"):
                pytest.fail("the block must not run")
        assert again.value.result == [1]
        found = await manager.find("k")
        assert found is not None
        assert await manager.outcome(found.gtrid) is Outcome.CONFIRMED

    run(work)


def test_a_refusal_reaches_the_caller(run: Callable[..., None]) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        with pytest.raises(TryRefused, match="branch 1 refusing refused: no") as refused:
            async with manager.tcc() as tx:
                await tx.call(colours.refusing)
        assert (refused.value.detail, tx.state) == (7, State.CANCELLED)

    run(work)


def test_a_try_that_outlives_the_timeout_is_unknown_and_cancelled(run: Callable[..., None]) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        with pytest.raises(TryFailed, match="no answer in 0.2 s"):
            async with manager.tcc() as tx:
                await tx.call(colours.hanging)
        assert (colours.log, tx.state) == (["try hanging", "cancel async"], State.CANCELLED)

    run(work)


def test_a_cancelled_task_cancels_its_transaction_and_waits_for_it(run: Callable[..., None]) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        inside = asyncio.Event()
        seen: list[Any] = []

        async def purchase() -> None:
            async with manager.tcc() as tx:
                seen.append(tx)
                await tx.call(colours.coloured)
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(purchase())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (colours.log, seen[0].state) == (["try async", "cancel async"], State.CANCELLED)

    run(work)


@pytest.mark.parametrize("turns", range(0, 60, 3))
def test_cancelled_at_any_turn_of_the_loop_a_transaction_ends_whole(run: Callable[..., None], turns: int) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        await manager.start()

        async def purchase() -> None:
            async with manager.tcc(key="k") as tx:
                await tx.call(colours.coloured)
                await tx.call(colours.coloured)

        task = asyncio.create_task(purchase())
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(3):  # as anyio does: again and again
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({task})
        await manager.recover()
        found = await manager.find("k")
        if found is None:
            assert colours.log == []
        else:
            assert found.state in (State.CONFIRMED, State.CANCELLED)
            end = "confirm async" if found.state is State.CONFIRMED else "cancel async"
            tries = colours.log.count("try async")
            assert colours.log.count(end) >= tries
            assert all(line in ("try async", end) for line in colours.log)

    run(work)


def test_many_transactions_share_commits(run: Callable[..., None]) -> None:
    """Group commit: 40 transactions of 3 writes each are far fewer than 120 commits, and none is lost."""

    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        from sqlalchemy import event

        await manager.start()
        journal: Any = manager.company.journal
        engine = journal._database.engine  # counts its commits
        commits: list[int] = []
        event.listen(engine, "commit", lambda connection: commits.append(1))

        async def purchase(number: int) -> State:
            async with manager.tcc(key=f"k{number}") as tx:
                await tx.call(colours.coloured)
            return tx.state

        states = await asyncio.gather(*(purchase(number) for number in range(40)))
        assert states == [State.CONFIRMED] * 40
        assert len(commits) < 60

    run(work)


def test_a_closed_manager_says_so(run: Callable[..., None]) -> None:
    async def work(manager: AsyncTransactionManager, colours: Colours) -> None:
        async with manager.tcc() as tx:
            await tx.call(colours.plain)
        await manager.close()
        with pytest.raises(Misuse, match="closed; connect another"):
            async with manager.tcc():
                pytest.fail("not entered")
        with pytest.raises(Misuse, match="closed; connect another"):
            await manager.recover()
        with pytest.raises(Unavailable, match="closed, and nothing was written"):
            await manager.company.journal.time()

    run(work)
