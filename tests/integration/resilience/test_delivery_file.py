"""A file that the kernel watches: changes are in force long before the next look (SW-4)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backstay.errors import Misuse
from backstay.resilience import Switches
from integration.resilience.test_delivery_http import wait_for
from unit.resilience.test_switches import replace, toml


def test_SW4_a_watched_file_is_in_force_long_before_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "switches.toml"
    replace(path, toml(a=True))
    switches = Switches.connect(f"file://{path}?push=watchfiles", interval=600)
    assert switches.enabled("a")
    for turn in range(3):
        replace(path, toml(a=turn % 2 == 1))
        assert wait_for(lambda: switches.enabled("a") == (turn % 2 == 1), 4)  # noqa: B023  # called within the loop
    replace(path, "[switches\n")  # not understood: what is in force stays, and the watching goes on
    replace(path, toml(a=False))
    assert wait_for(lambda: not switches.enabled("a"), 4)
    switches.plane.close()


def test_SW11_a_forked_child_watches_the_file_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "switches.toml"
    replace(path, toml(a=True))
    switches = Switches.connect(f"file://{path}?push=watchfiles", interval=600)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ready = wait_for(lambda: switches.status().state == "ready" and switches.plane.status().connected)
            replace(path, toml(a=False))
            status = 0 if ready and wait_for(lambda: not switches.enabled("a"), 4) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wait_for(lambda: not switches.enabled("a"), 4)
    switches.plane.close()


def test_another_way_to_watch_is_told() -> None:
    with pytest.raises(Misuse, match="'watchfiles', got 'inotify'"):
        Switches.connect("file:///etc/switches.toml?push=inotify", defaults={"a": True})
