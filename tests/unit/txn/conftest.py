"""A journal in a file, and actions that write down what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backstay.txn import Branch, Settings, Tcc, TransactionManager


class Recorded:
    """An action; `answers` says what the next requests of a phase come to."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.answers: dict[str, list[Any]] = {}
        self._log = log
        self.name = name
        self.action = Tcc(name, try_=self._serve, confirm=self._serve, cancel=self._serve)

    def _serve(self, branch: Branch, **payload: Any) -> Any:
        self._log.append(f"{branch.phase.value} {self.name}")
        waiting = self.answers.get(branch.phase.value)
        answer = waiting.pop(0) if waiting else None
        if isinstance(answer, BaseException):
            raise answer
        return answer(branch) if callable(answer) else answer


@pytest.fixture
def log() -> list[str]:
    """What actions were asked, in order."""
    return []


@pytest.fixture
def stock(log: list[str]) -> Recorded:
    return Recorded("stock", log)


@pytest.fixture
def payments(log: list[str]) -> Recorded:
    return Recorded("payments", log)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def connect(journal: str, stock: Recorded, payments: Recorded) -> Iterator[Callable[..., TransactionManager]]:
    """Make managers over the journal; background recovery does not come in between unless asked for."""
    with ExitStack() as stack:

        def make(**settings: Any) -> TransactionManager:
            chosen = Settings(**{"recovery": False, "patience": 0.05, **settings})
            manager = TransactionManager.connect(journal, actions=[stock.action, payments.action], settings=chosen)
            return stack.enter_context(manager)

        yield make


@pytest.fixture
def manager(connect: Callable[..., TransactionManager]) -> TransactionManager:
    return connect()
