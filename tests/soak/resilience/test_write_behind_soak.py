"""A thousand killed consumers: the database sum equals the accepted operations (WD-3)."""

from __future__ import annotations

import random

import pytest

from faults.resilience.write_behind_kills import POINTS, rounds
from unit.resilience.write_behinds import Site


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_WD3_kill_9_at_each_of_five_points_a_thousand_times(
    engine: str, redis_url: str, request: pytest.FixtureRequest
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    site = Site(redis_url, request.getfixturevalue(f"{engine}_url"), patience=5.0)
    try:
        assert rounds(site, 1000, seed) == dict.fromkeys(POINTS, 200)
    finally:
        site.close()
