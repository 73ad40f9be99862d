"""Levels ordered through the config plane, by push from a source in memory."""

from __future__ import annotations

import time

from backstay.resilience.delivery import MemorySource, Plane
from backstay.resilience.levels import Level, Levels


def reached(levels: Levels, level: Level) -> bool:
    until = time.monotonic() + 5
    while levels.of("shop").level is not level and time.monotonic() < until:
        time.sleep(0.005)
    return levels.of("shop").level is level


def test_DG4_a_document_forces_a_level_and_taking_it_away_releases_it() -> None:
    levels, source = Levels(), MemorySource()
    levels.of("shop")
    plane = Plane(source)
    plane.attach(levels)
    try:
        source.publish(levels={"shop": {"force": "severe", "reason": "stock count"}})
        plane.start()
        assert reached(levels, Level.SEVERE)
        source.publish(levels={"shop": {"force": "awful"}})  # refused: the last good one stays
        source.publish(levels={"shop": {"automatic": "warning"}})
        assert reached(levels, Level.WARNING)
        source.publish(levels={})
        assert reached(levels, Level.NORMAL)
    finally:
        plane.close()
