"""How terms end and what candidates then do, in virtual time and over the shipped scripts."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from backstay.errors import NotAcquired
from backstay.locks import Leadership, Locks
from backstay.locks.elections import standing
from backstay.locks.elections.campaign import Campaign, candidacy, seat
from backstay.locks.elections.election import ASYNCIO_COLOUR
from backstay.locks.elections.leadership import AsyncLeadership
from backstay.locks.register import Next
from backstay.locks.states.news import NewsState, ended, since, started
from stateful.locks.simulated import Client
from stateful.locks.simulated_documents import Field


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


class Stage:
    """Candidates of one election, and when each of them led."""

    def __init__(self, clients: int = 2) -> None:
        self.field = Field(1, clients, faults=False)
        self.began: list[tuple[float, str]] = []
        self.ended: list[tuple[float, str]] = []

    async def stand(self, client: Client, lasts: float, slowly: float = 0.0, **terms: Any) -> None:
        given: dict[str, Any] = {"ttl": 1.0, "retry": 0.1, "lock_delay": 0.0, "hold_back": 0.0, "hold_down": 30.0}
        agreed = candidacy(**{**given, **terms})
        name = client.host.name

        async def body(leadership: AsyncLeadership) -> None:
            self.began.append((self.field.world.time, name))
            try:
                await client.host.sleep(lasts)
            except asyncio.CancelledError:
                await client.host.sleep(slowly)
                raise
            finally:
                if not client.host.dead:
                    self.ended.append((self.field.world.time, name))

        await Campaign(client.protocol, "chair", name, agreed, ASYNCIO_COLOUR).run(body)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        state = self.field.state("chair", "election")
        assert state is not None
        return [(candidate, reason) for _, event, _, candidate, reason in state["news"] if event == "ended"]

    def run(self, *work: tuple[Client, Any]) -> None:
        for client, coroutine in work:
            self.field.start(client, coroutine)
        self.field.run()


def second(stage: Stage, lasts: float = 0.1, **terms: Any) -> tuple[Client, Any]:
    client = stage.field.clients[1]

    async def later() -> None:
        await client.host.sleep(0.2)
        await stage.stand(client, lasts, **terms)

    return client, later()


def test_X9_a_leader_that_dies_is_followed_after_its_ttl_and_its_end_is_told_by_the_next() -> None:
    stage = Stage()
    first = stage.field.clients[0]
    stage.field.world.at(0.5, lambda: first.crash(seen_by_server=True))
    stage.run((first, stage.stand(first, 100.0)), second(stage))
    assert [name for _, name in stage.began] == ["c0", "c1"]
    assert 1.0 < stage.began[1][0] < 2.0, "the ttl of 1 s and the time to be elected"
    assert stage.reasons == [("c0", "lease expired"), ("c1", "resigned")]


@pytest.mark.parametrize("delay", [0.0, 4.0])
def test_X7_the_lock_delay_gives_a_leader_that_did_not_tell_of_its_end_the_time_to_end(delay: float) -> None:
    stage = Stage()
    first = stage.field.clients[0]
    stage.field.world.at(0.5, lambda: first.crash(seen_by_server=True))
    stage.run((first, stage.stand(first, 100.0)), second(stage, lock_delay=delay))
    assert delay + 1.0 < stage.began[1][0] < delay + 2.0


def test_X7_no_delay_after_a_leader_that_told_of_its_end() -> None:
    stage = Stage()
    first = stage.field.clients[0]
    stage.run((first, stage.stand(first, 0.5)), second(stage, lock_delay=60.0))
    assert stage.began[1][0] < 1.0
    assert stage.reasons == [("c0", "resigned"), ("c1", "resigned")]


def test_X1_X9_a_leader_that_is_cut_off_stops_before_the_next_begins() -> None:
    stage = Stage()
    first = stage.field.clients[0]
    stage.field.world.at(0.5, lambda: stage.field.world.part(first.host, stage.field.server.host, 3.0))
    stage.run((first, stage.stand(first, 2.5)), second(stage, lasts=1.0))
    assert stage.ended[0][1] == "c0"
    assert stage.ended[0][0] < stage.began[1][0], "told by its own clock, before the store could grant it again"
    assert stage.began[1][1] == "c1"
    assert stage.began[2][1] == "c0", "and it stands again"
    assert stage.reasons[0] == ("c0", "lease expired"), "the next leader told, since the first could not"


def test_X1_a_candidate_does_not_stand_again_before_its_work_has_ended() -> None:
    stage = Stage(1)
    first = stage.field.clients[0]
    stage.field.world.at(0.5, lambda: stage.field.world.part(first.host, stage.field.server.host, 1.5))
    stage.run((first, stage.stand(first, 3.0, slowly=8.0)))
    assert len(stage.began) == 2
    assert stage.began[1][0] > stage.ended[0][0] > 9.0, "the first work took 8 s to end"
    assert stage.reasons == [("c0", "partitioned"), ("c0", "resigned")]


def test_X8_a_candidate_whose_terms_end_badly_and_soon_is_held_down() -> None:
    stage = Stage(1)
    first = stage.field.clients[0]

    async def breaking() -> None:
        while len(stage.began) < 6:
            await first.host.sleep(0.01)
            holders = (await first.backend.inspect(seat("chair"), 1.0)).holders
            if holders and len(stage.began) > len(stage.ended):
                await first.backend.withdraw(seat("chair"), holders[0].token, False, 1.0)
                ends = len(stage.ended)
                while len(stage.ended) == ends:
                    await first.host.sleep(0.01)

    stage.run((first, stage.stand(first, 1.5, hold_down=2.0)), (first, breaking()))
    away = [after[0] - before[0] for before, after in zip(stage.ended, stage.began[1:], strict=False)][:5]
    assert away[-1] > 4 * away[0]
    assert max(away) < 2.5, "at most the hold-down"
    assert {reason for _, reason in stage.reasons[:5]} == {"superseded"}


def test_X1_closing_leaves_the_seat_of_work_that_does_not_end_to_its_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "RESIGN_WITHIN", 0.05)
    url = f"memory://{uuid.uuid4().hex}"
    locks, others = Locks.connect(url), Locks.connect(url)
    leads, end = threading.Event(), threading.Event()

    def stubborn(leadership: Leadership) -> None:
        leads.set()
        end.wait(30.0)

    thread = threading.Thread(target=lambda: locks.election("x", ttl=60.0).run(stubborn))
    thread.start()
    assert leads.wait(10.0)
    locks.close()
    with pytest.raises(NotAcquired):
        others.mutex("election:x", wait=0.0).acquire()
    assert others.election("x").leader() is not None
    end.set()
    thread.join(10.0)
    assert not thread.is_alive()
    others.close()


# -- the news as a value


def test_X5_terms_only_rise_and_each_ends_before_the_next_begins() -> None:
    state: NewsState | None = None
    for step in (started(state, 5, "a"), started(state, 5, "a")):
        state = step.state or state
    steps: list[Callable[[NewsState | None], Next[NewsState, None]]] = [
        lambda now: started(now, 7, "b"),  # nobody ended term 5
        lambda now: ended(now, 5, "a", "resigned"),  # too late
        lambda now: started(now, 6, "c"),  # too late
        lambda now: ended(now, 7, "b", "body failed"),
        lambda now: ended(now, 7, "b", "resigned"),  # told already
        lambda now: ended(now, 9, "d", "resigned"),  # whose begin was never written
    ]
    for step_of in steps:
        state = step_of(state).state or state
    assert state is not None
    assert [(each.event, each.term, each.reason) for each in state.news] == [
        ("elected", 5, ""),
        ("ended", 5, "lease expired"),
        ("elected", 7, ""),
        ("ended", 7, "body failed"),
        ("elected", 9, ""),
        ("ended", 9, "resigned"),
    ]
    assert all(after.number == before.number + 1 for before, after in pairwise(state.news))
    assert [each.number for each in since(state, 4)] == [5, 6]
    assert since(state, 6) == []
    assert [each.number for each in since(state, 99)] == [6], "another document: only the latest"


def test_news_are_bounded() -> None:
    state: NewsState | None = None
    for term in range(1, 100):
        state = started(state, term, "a").state
    assert state is not None
    assert len(state.news) == 32
    assert state.last.term == 99
