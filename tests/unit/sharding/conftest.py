from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from backstay.sharding import ShardMap
from backstay.testing.sharding import MasterOracle
from unit.sharding.market import baskets, fill, layout_of, sqlite_layout, sqlite_whole


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four databases with empty tables, to copy: making tables syncs the disk many times."""
    folder = tmp_path_factory.mktemp("template")
    sqlite_layout(folder).dispose()
    return folder


@pytest.fixture
def layout(template: Path, tmp_path: Path) -> Iterator[ShardMap]:
    """Four SQLite shards, empty."""
    for database in template.iterdir():
        shutil.copy(database, tmp_path)
    made = layout_of({f"s{at}": f"sqlite:///{tmp_path}/s{at}.db" for at in range(4)})
    yield made
    made.dispose()


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Engine]:
    engine = sqlite_whole(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardMap, Engine]]:
    """Four shards with 60 orders of 24 households, and one database with all of them; only to read."""
    folder = tmp_path_factory.mktemp("market")
    shards, everything = sqlite_layout(folder), sqlite_whole(folder)
    fill(shards, everything, *baskets())
    yield shards, everything
    shards.dispose()
    everything.dispose()


@pytest.fixture
def oracle(filled: tuple[ShardMap, Engine]) -> MasterOracle:
    return MasterOracle(*filled)
