"""Removes a run's containers once the process that began the run is gone, however it went.

Run as a script with the run's directory; it needs nothing but Python's own modules and the docker command.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

LABEL = "backstay.run"


def sweep(name: str) -> int:
    """Remove the containers labelled with this run; return how many there were."""
    found = subprocess.run(
        ["docker", "ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}={name}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if found:
        # It fails for a container that somebody else removes at this moment, which is as good.
        subprocess.run(["docker", "rm", "-f", "-v", *found], capture_output=True, check=False)
    return len(found)


def watch(directory: Path) -> None:
    """Wait until nobody holds the run's lock, then remove what is left of the run."""
    try:
        lock = (directory / "lock").open()
    except FileNotFoundError:
        return  # it ended before we looked
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A worker that is dying may just have asked for one more container: look until a look finds none.
        for _ in range(20):
            if sweep(str(directory)) == 0:
                break
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
