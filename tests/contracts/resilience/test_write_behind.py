"""The contract of write-behind on what needs no server: memory and SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.resilience.write_behinds import Contract, Site


@pytest.fixture(params=["memory", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/cache.db"


@pytest.fixture(params=["sync", "async"])
def site(request: pytest.FixtureRequest, cache: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(cache, f"sqlite:///{tmp_path}/stock.db", request.param)
    yield made
    made.close()


class TestWriteBehind(Contract):
    pass
