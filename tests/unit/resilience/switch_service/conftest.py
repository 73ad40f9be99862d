"""A service on a fresh SQLite file, with a wall clock and a monotonic clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from unit.resilience.switch_service.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with TestClient(made.app, base_url="http://switches.test") as client:
        made.client = client
        yield made
    made.store.close()
