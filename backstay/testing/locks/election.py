"""The contracts of elections and of jobs that run once: what every store promises, on both faces."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired
from backstay.locks import LockLost, current_lease
from backstay.locks.elections.campaign import news, seat
from backstay.testing._two_faces import PATIENCE, Store, TwoFaces

__all__ = ["ElectionContract", "OnceContract"]

TTL = 2.0  # s
SETTLE = 0.1


class Work:
    """What a leader does: notes that it began, and goes on until it is told to stop."""

    def __init__(self, face: str) -> None:
        self.terms: list[int] = []
        self.inside = 0
        self.ended = 0
        self.plain = face == "threads"

    @property
    def body(self) -> Any:
        """The function of the face's colour."""
        return self._thread if self.plain else self._task

    def _begin(self, leadership: Any) -> None:
        self.inside += 1
        assert self.inside == 1, "two leaders"
        leadership.check()
        assert leadership.is_valid()
        self.terms.append(leadership.term)

    def _end(self) -> None:
        self.inside -= 1
        self.ended += 1

    def _thread(self, leadership: Any) -> str:
        self._begin(leadership)
        try:
            leadership.lost.wait(4 * PATIENCE)
            assert not leadership.is_valid()
            return "told"
        finally:
            self._end()

    async def _task(self, leadership: Any) -> str:
        self._begin(leadership)
        try:
            await asyncio.sleep(4 * PATIENCE)
            return "not told"
        finally:
            await asyncio.sleep(0.02)  # the end takes its time, and the seat waits for it
            self._end()

    async def led(self, times: int) -> None:
        """Wait until somebody was elected for the so-manieth time."""
        end = time.monotonic() + PATIENCE
        while len(self.terms) < times:
            assert time.monotonic() < end, f"nobody was elected: {self.terms}"
            await asyncio.sleep(0.01)


def of_colour(face: str, value: Any) -> Any:
    """Return a body that returns, or raises, `value`."""

    def plain(leadership: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    async def asynchronous(leadership: Any) -> Any:
        return plain(leadership)

    return plain if face == "threads" else asynchronous


async def told(store: Store, name: str) -> list[tuple[str, str, str]]:
    """Return the news of an election that are kept, oldest first."""
    protocol = store.protocol
    seen = await store.core(news(protocol, name).look(protocol.runtime.now() + PATIENCE))
    return [] if seen is None else [(each.event, each.candidate, each.reason) for each in seen.state.news]


class ElectionContract(TwoFaces):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def test_X2_a_body_that_returns_has_resigned_and_its_value_comes_back(self, face: str) -> None:
        async def work(store: Store) -> None:
            election = store.locks.election("returns", ttl=TTL, candidate="a")
            assert await store.do(election.leader) is None
            for _ in range(2):
                assert await store.do(election.run, of_colour(face, 42)) == 42
            assert await store.do(election.leader) is None
            assert await told(store, "returns") == [("elected", "a", ""), ("ended", "a", "resigned")] * 2

        self.run(face, work)

    def test_X2_a_body_that_raises_has_resigned_and_its_error_comes_out(self, face: str) -> None:
        async def work(store: Store) -> None:
            election = store.locks.election("raises", ttl=TTL, candidate="a")
            with pytest.raises(LookupError, match="its own"):
                await store.do(election.run, of_colour(face, LookupError("its own")))
            start = time.monotonic()
            assert await store.do(election.run, of_colour(face, "next")) == "next"
            assert time.monotonic() - start < TTL / 2, "the seat was free at once"
            assert (await told(store, "raises"))[:2] == [("elected", "a", ""), ("ended", "a", "body failed")]

        self.run(face, work)

    def test_X1_X2_one_leads_and_the_next_when_it_has_really_ended(self, face: str) -> None:
        async def work(store: Store) -> None:
            leaders = Work(face)
            elections = [store.locks.election("turns", ttl=TTL, candidate=name) for name in "abc"]
            runs = [asyncio.create_task(store.do(each.run, leaders.body)) for each in elections]
            for turn in range(1, 4):
                await leaders.led(turn)
                leader = await store.do(elections[0].leader)
                assert leader is not None
                assert leader.term == leaders.terms[-1]
                start = time.monotonic()
                next(each for each in elections if each.candidate == leader.candidate).stop()
                if turn < 3:
                    await leaders.led(turn + 1)
                    assert time.monotonic() - start < TTL / 2, "elected in well under a ttl"
            await asyncio.gather(*runs)
            assert leaders.terms == sorted(set(leaders.terms))
            assert leaders.ended == 3
            assert await store.do(elections[0].leader) is None

        self.run(face, work)

    def test_X4_who_leads_is_known_to_all_and_leadership_is_computed(self, face: str) -> None:
        async def work(store: Store) -> None:
            leaders = Work(face)
            election = store.locks.election("who", ttl=TTL)
            run = asyncio.create_task(store.do(election.run, leaders.body))
            await leaders.led(1)
            leader = await store.do(store.locks.election("who").leader)
            assert leader is not None
            assert (leader.candidate, leader.term) == (election.candidate, leaders.terms[0])
            election.stop()
            await run
            assert await store.do(election.leader) is None

        self.run(face, work)

    def test_X5_news_come_in_order_without_repeats_and_the_latest_always(self, face: str) -> None:
        async def work(store: Store) -> None:
            election = store.locks.election("news", ttl=TTL, candidate="a")
            await store.do(election.run, of_colour(face, 1))
            seen = await self.observed(store, "news", 1.0, lambda: store.do(election.run, of_colour(face, 2)))
            assert [(each.event, each.reason) for each in seen] == [
                ("ended", "resigned"),  # the latest when the observer came
                ("elected", ""),
                ("ended", "resigned"),
            ]
            assert [each.number for each in seen] == [2, 3, 4]
            assert seen[1].term == seen[2].term > seen[0].term
            late = await self.observed(store, "news", 0.05)
            assert [each.number for each in late] == [4]

        self.run(face, work)

    async def observed(self, store: Store, name: str, wait: float, meanwhile: Any = None) -> list[Any]:
        """Observe an election until nothing comes any more."""
        election: Any = store.locks.election(name)
        seen: list[Any] = []

        async def tasks() -> None:
            seen.extend([piece async for piece in election.observe(wait)])

        def threads() -> None:
            seen.extend(election.observe(wait))

        plain = inspect.isgeneratorfunction(election.observe)
        watching = asyncio.create_task(asyncio.to_thread(threads) if plain else tasks())
        if meanwhile is not None:
            await asyncio.sleep(SETTLE * 2)
            await meanwhile()
        await watching
        return seen

    def test_X8_who_holds_back_leads_only_where_no_other_does(self, face: str) -> None:
        async def work(store: Store) -> None:
            second = store.locks.election("zones", ttl=TTL, retry=0.05, candidate="second", hold_back=0.2)
            first = store.locks.election("zones", ttl=TTL, retry=0.05, candidate="first")
            leaders, spares = Work(face), Work(face)
            reserve = asyncio.create_task(store.do(second.run, spares.body))
            run = asyncio.create_task(store.do(first.run, leaders.body))
            await leaders.led(1)
            await asyncio.sleep(0.4)
            assert spares.terms == []
            first.stop()
            await run
            await spares.led(1)
            second.stop()
            await reserve

        self.run(face, work)

    def test_X3_times_that_leave_no_room_are_refused_before_anything_is_sent(self, face: str) -> None:
        async def work(store: Store) -> None:
            refused: tuple[dict[str, Any], ...] = (
                {"ttl": 0}, {"ttl": -1}, {"ttl": 2.0, "retry": 1.7}, {"retry": 0}, {"retry": 20.0},
                {"lock_delay": -1}, {"hold_back": float("nan")}, {"hold_down": -1}, {"ttl": "15"},
            )  # fmt: skip
            for options in refused:
                with pytest.raises(ValueError, match="must be"):
                    store.locks.election("bad", **options)
            with pytest.raises(Misuse, match="name"):
                store.locks.election("")

        self.run(face, work)

    def test_O6_closing_lets_the_leader_resign_first(self, face: str) -> None:
        async def work(store: Store) -> None:
            leaders = Work(face)
            async with self.opened(face) as others:
                election = others.locks.election("close", ttl=30.0, candidate="a")
                run = asyncio.create_task(others.do(election.run, leaders.body))
                await leaders.led(1)
                await others.do(others.locks.close)
                assert leaders.ended == 1, "the work had ended when the seat was given back"
                await run
            again = store.locks.election("close", ttl=TTL, candidate="b")
            start = time.monotonic()
            assert await store.do(again.run, of_colour(face, "b")) == "b"
            assert time.monotonic() - start < PATIENCE, "given back, not left to its ttl of 30 s"
            assert (await told(store, "close"))[1] == ("ended", "a", "resigned")

        self.run(face, work)

    def test_X1_a_leader_that_was_cut_off_from_its_lease_is_told_and_stands_again(self, face: str) -> None:
        async def work(store: Store) -> None:
            leaders = Work(face)
            election = store.locks.election("taken", ttl=TTL, retry=0.05, candidate="a")
            run = asyncio.create_task(store.do(election.run, leaders.body))
            await leaders.led(1)
            backend = store.protocol.backend
            survey = await store.core(backend.inspect(seat("taken"), PATIENCE))
            token = survey.holders[0].token
            await store.core(backend.withdraw(seat("taken"), token, False, PATIENCE))  # as an operator breaks a lock
            await leaders.led(2)
            assert leaders.ended == 1
            assert leaders.terms[1] > leaders.terms[0]
            election.stop()
            await run
            assert [each[2] for each in await told(store, "taken")] == ["", "superseded", "", "resigned"]

        self.run(face, work)

    def test_X6_a_singleton_runs_in_one_place_and_moves_when_it_stops(self, face: str) -> None:
        async def work(store: Store) -> None:
            leaders = Work(face)

            async def asynchronous(leadership: Any) -> Any:
                return await leaders.body(leadership)

            def plain(leadership: Any) -> Any:
                return leaders.body(leadership)

            workers = [
                store.locks.singleton("scheduler", ttl=TTL, candidate=name)(plain if leaders.plain else asynchronous)
                for name in "ab"
            ]
            for worker in workers:
                worker.start()
                worker.start()
            await leaders.led(1)
            leader = await store.do(workers[0].election.leader)
            workers.sort(key=lambda worker: worker.election.candidate != leader.candidate)
            await store.do(workers[0].stop)
            assert leaders.ended == 1
            await leaders.led(2)
            await store.do(workers[1].stop)
            assert leaders.ended == 2
            assert leaders.terms == sorted(set(leaders.terms))

        self.run(face, work)


class OnceContract(TwoFaces):
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

    def job(self, store: Store, face: str, ran: list[str], **options: Any) -> Any:
        """Return a job that notes what it ran for; those that fail have a key that says so."""

        def plain(key: str) -> str:
            ran.append(key)
            assert current_lease().name == f"once:job:{key}"
            if ran.count("fails") == 1 and key == "fails":
                raise LookupError("at the first time")
            return f"done {key}"

        def thread(key: str) -> str:
            return plain(key)

        async def task(key: str) -> str:
            await asyncio.sleep(0.02)
            return plain(key)

        return store.locks.once("job:{key}", **options)(thread if face == "threads" else task)

    def test_pain_22_a_job_runs_once_for_a_key_over_all_workers(self, face: str) -> None:
        async def work(store: Store) -> None:
            ran: list[str] = []
            jobs = [self.job(store, face, ran) for _ in range(4)]
            results = await asyncio.gather(*(store.do(job, "monday") for job in jobs))
            assert sorted(results, key=str) == [None, None, None, "done monday"]
            assert ran == ["monday"]
            assert await store.do(jobs[0], "monday") is None
            assert await store.do(jobs[0], "tuesday") == "done tuesday"
            assert ran == ["monday", "tuesday"]

        self.run(face, work)

    def test_a_job_that_failed_is_run_by_one_who_waits(self, face: str) -> None:
        async def work(store: Store) -> None:
            ran: list[str] = []
            jobs = [self.job(store, face, ran) for _ in range(3)]
            results = await asyncio.gather(*(store.do(job, "fails") for job in jobs), return_exceptions=True)
            assert sorted(map(str, results)) == ["None", "at the first time", "done fails"]
            assert ran == ["fails", "fails"]

        self.run(face, work)

    def test_who_does_not_wait_is_told_that_it_is_being_run(self, face: str) -> None:
        async def work(store: Store) -> None:
            ran: list[str] = []
            lease = await store.do(store.locks.mutex("once:job:busy", ttl=30.0).acquire)
            job = self.job(store, face, ran, wait=0)
            with pytest.raises(NotAcquired, match="once:job:busy"):
                await store.do(job, "busy")
            await store.do(lease.release)
            assert await store.do(job, "busy") == "done busy"
            assert ran == ["busy"]

        self.run(face, work)

    def test_a_worker_that_dies_in_the_job_has_not_run_it(self, face: str) -> None:
        async def work(store: Store) -> None:
            ran: list[str] = []
            dead = await store.do(store.locks.mutex("once:job:dead", ttl=0.4, renew=False).acquire)
            job = self.job(store, face, ran)
            start = time.monotonic()
            assert await store.do(job, "dead") == "done dead"
            assert time.monotonic() - start >= 0.3
            with pytest.raises(LockLost):
                await store.do(dead.release)

        self.run(face, work)

    def test_a_template_that_names_no_parameter_is_refused_at_import(self, face: str) -> None:
        async def work(store: Store) -> None:
            def job(date: str) -> None:
                raise AssertionError

            with pytest.raises(Misuse, match="no such parameter"):
                store.locks.once("job:{day}")(job)

            with pytest.raises(Misuse, match="keep"):
                store.locks.once("job", keep=1.0)
            with pytest.raises(Misuse, match="ttl"):
                store.locks.once("job", ttl=0)

        self.run(face, work)
