"""A disk that is full while a document is kept: the old copy stays whole, the service goes on (SW-7, SW-12)."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from backstay.errors import Unavailable
from backstay.resilience.delivery.last_known_good import LastKnownGood
from backstay.resilience.delivery.plane import Plane
from unit.resilience.delivery.scripted import Keeping, Scripted, sealed


def test_SW12_a_full_disk_leaves_the_old_copy_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert LastKnownGood(path).save(sealed(1))
    child = os.fork()  # the limit is for one process, for good
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            keeping = Keeping()
            plane = Plane(Scripted(sealed(2)), keep=path).attach(keeping)
            plane.start(watched=False)
            served = keeping.now == {"number": 2} and plane.status().state == "ready"
            try:
                LastKnownGood(path).save(sealed(3))
            except Unavailable as error:
                status = 0 if served and "cannot be kept" in str(error) else 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert LastKnownGood(path).load() == sealed(1)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
