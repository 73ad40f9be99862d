"""One browser for all tests of the page, a service of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from integration.resilience.switch_replicas import Replica
from integration.switch_service.chromium import Site, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def site(browser: Browser, tmp_path: Path) -> Iterator[Site]:
    replica = Replica(f"sqlite:///{tmp_path / 'switches.db'}")
    made = Site(browser, replica)
    try:
        yield made
        made.close()
    finally:
        made.replica.close()
