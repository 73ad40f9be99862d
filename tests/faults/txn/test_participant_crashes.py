"""B-1 for participants: killed at each place inside try, confirm and cancel, then the request comes again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.pool import NullPool

from backstay.txn import Branch, Participant, Phase
from backstay.txn.values import Answer
from faults.txn.accounts import in_child

PLACES = ("before begin", "after the barrier", "after the business write", "after commit")
EFFECT = {Phase.TRY: (93, 7, 0), Phase.CONFIRM: (93, 0, 7), Phase.CANCEL: (100, 0, 0)}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Kills:
    """One account a test; subclasses say where its database is."""

    url: str

    @pytest.fixture(autouse=True)
    def account(self, databases: None) -> None:
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            connection.execute(text("CREATE TABLE account (free INTEGER, held INTEGER, spent INTEGER)"))
            connection.execute(text("INSERT INTO account VALUES (100, 0, 0)"))

    def participant(self, place: str = "", phase: Phase | None = None) -> Participant:
        engine = create_engine(self.url, poolclass=NullPool)

        def serve(statement: str) -> Callable[..., None]:
            def function(connection: Connection, branch: Branch, *, units: int) -> None:
                if branch.phase is phase and place == "after the barrier":
                    _die()
                connection.execute(text(f"UPDATE account SET {statement}"), {"n": units})
                if branch.phase is phase and place == "after the business write":
                    _die()

            return function

        made = Participant(
            "account",
            engine,
            try_=serve("free = free - :n, held = held + :n"),
            confirm=serve("held = held - :n, spent = spent + :n"),
            cancel=serve("held = held - :n, free = free + :n"),
        )
        if place == "before begin":
            event.listen(engine, "begin", lambda connection: _die())
        return made

    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("place", PLACES)
    def test_B1_killed_and_asked_again(self, place: str, phase: Phase) -> None:
        def request(of: Phase) -> Branch:
            return Branch(gtrid="g", id="1", phase=of, payload={"units": 7})

        steady = self.participant()
        # Makes the table, too: the doomed child must die at its place, not while it makes tables.
        steady.perform(Branch(gtrid="warm", id="1", phase=Phase.CANCEL, payload={"units": 0}))
        if phase is not Phase.TRY:
            assert steady.perform(request(Phase.TRY)).answer is Answer.DONE

        def work() -> int:
            doomed = self.participant(place, phase)
            doomed._create = False  # its table is there
            doomed.perform(request(phase))
            if place == "after commit":
                _die()
            return 1

        assert in_child(work)[1] == -signal.SIGKILL
        for _ in range(2):
            assert steady.perform(request(phase)).answer is Answer.DONE
            with create_engine(self.url, poolclass=NullPool).connect() as connection:
                assert tuple(connection.execute(text("SELECT free, held, spent FROM account")).one()) == EFFECT[phase]


class TestSqlite(Kills):
    @pytest.fixture
    def databases(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/business.db"


class TestPostgres(Kills):
    @pytest.fixture
    def databases(self, postgres_url: str) -> None:
        self.url = postgres_url


class TestMariadb(Kills):
    @pytest.fixture
    def databases(self, mariadb_url: str) -> None:
        self.url = mariadb_url
