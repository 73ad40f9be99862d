"""The Docker engine and the images, through the scripts in docker/ that a user can run as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# testcontainers reads these when it is imported. Nothing here needs its reaper (a run sweeps for itself), and inside a
# container it would otherwise look for published ports at the bridge's gateway.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

DOCKER = Path(__file__).resolve().parents[2] / "docker"


class EngineMissing(Exception):
    """No engine answers and none could be started, or an image could not be built."""


def images(names: Sequence[str]) -> Mapping[str, str]:
    """Make sure that an engine answers and the images exist; return the tag of each.

    Costs about 0.2 s when everything is there. The first time it builds (about a minute), and on a Debian without an
    engine it installs one.
    """
    _run(DOCKER / "engine.sh")
    lines = _run(DOCKER / "images.sh", *names).splitlines()
    return {name: tag for name, _, tag in (line.partition(" ") for line in lines)}


def _run(script: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(script), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineMissing(done.stderr.strip() or f"{script.name} ended with {done.returncode} and said nothing")
    return done.stdout
