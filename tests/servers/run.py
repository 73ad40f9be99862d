"""One test run's servers: started when first asked for, shared by its worker processes, gone when it is gone.

A run is a directory with a lock file that the process which began it holds for as long as it lives. Every container
carries the directory's name as a label. So "does this container still belong to somebody?" is "is that lock held?",
which no crash can get wrong: the kernel drops a lock with its holder, and unlike a pid it is never reused. Two nets
catch what a killed run leaves: a watchdog process that waits for the lock, and the next run, which looks for locks
that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import engine
from .parts import PARTS, Part, external_url
from .watchdog import LABEL, sweep

if TYPE_CHECKING:
    from .server import Server

HOST_LABEL = "backstay.host"

_watchdogs: list[subprocess.Popen[bytes]] = []
"""They outlive us on purpose; Python would warn about a process object that is collected before its process ends."""


class Run:
    """The servers of one run. Begin it once (`Run.begin`); worker processes join it by its directory (`Run(path)`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: int | None = None

    @classmethod
    def begin(cls) -> Run:
        """Make a run that lasts until `end`, or until this process does. Starts nothing yet."""
        home = _home()
        # A name ends up in a label and a path; the lock is taken before any other run can see the directory.
        hidden = Path(tempfile.mkdtemp(dir=home, prefix=".new-"))
        lock = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = home / secrets.token_hex(6)
        hidden.rename(directory)
        run = cls(directory)
        run._lock = lock
        return run

    def end(self) -> None:
        """Remove every container of this run."""
        if (self.directory / "used").exists():
            sweep(str(self.directory))
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def labels(self) -> Mapping[str, str]:
        """What marks this run's containers."""
        return {LABEL: str(self.directory), HOST_LABEL: socket.gethostname()}

    def url(self, part: Part) -> str:
        """The address of the run's shared server of this kind, which the first caller of any worker starts.

        Raises what the start raised; every later caller gets the same answer without another attempt.
        """
        address, failure = self.directory / f"{part.name}.json", self.directory / f"{part.name}.failed"
        with self._guard(part.name):
            if failure.exists():
                raise RuntimeError(
                    f"the {part.name} server could not be started earlier in this run; see the first error"
                )
            if not address.exists():
                try:
                    server = self._start(part)
                except BaseException:
                    failure.touch()
                    raise
                _write(address, json.dumps({"url": server.url}))
            return str(json.loads(address.read_text())["url"])

    def own(self, part: Part, **environment: str) -> Server:
        """Start another server for the caller alone, to be killed at will; remove it after use."""
        return self._start(part, environment)

    def images(self, *names: str) -> Mapping[str, str]:
        """The tags of these images, built if need be; whoever starts containers of them uses this run's `labels`."""
        tags = engine.images(names)
        self._first_use()
        return tags

    def _start(self, part: Part, environment: Mapping[str, str] | None = None) -> Server:
        image = self.images(part.name)[part.name]
        from .server import start  # the Docker client costs 0.3 s that a run without containers need not pay

        return start(part, image, labels=self.labels, environment=environment)

    def _first_use(self) -> None:
        with self._guard("used"):
            if (self.directory / "used").exists():
                return
            _sweep_abandoned()
            # A process of its own session, so that what kills this run (a terminal's ^C, a killed group) spares it.
            watchdog = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("watchdog.py")), str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
            _watchdogs.append(watchdog)
            (self.directory / "used").touch()

    @contextlib.contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        with (self.directory / f"{name}.guard").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def running(*names: str) -> Iterator[Mapping[str, str]]:
    """Keep these servers (`redis`, `postgres`, `mariadb`, `zookeeper`) running inside the block; yields their URLs.

    A server named by its BACKSTAY_TEST_*_URL variable is used as it is.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ValueError(f"no such server: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    run = Run.begin()
    try:
        ours = [name for name in names if external_url(PARTS[name]) is None]
        if ours:
            engine.images(ours)
        yield {name: external_url(PARTS[name]) or run.url(PARTS[name]) for name in names}
    finally:
        run.end()


def _home() -> Path:
    home = Path(tempfile.gettempdir()) / f"backstay-servers-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise RuntimeError(f"{home} belongs to somebody else; remove it or set TMPDIR")
    return home


def _sweep_abandoned() -> None:
    """Remove what killed runs of this user on this machine left: theirs are the locks that nobody holds."""
    home = _home()
    left = subprocess.run(
        ["docker", "ps", "-a", "--filter", f"label={HOST_LABEL}={socket.gethostname()}"]
        + ["--format", f'{{{{.Label "{LABEL}"}}}}'],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in {*left, *(str(path) for path in home.iterdir() if not path.name.startswith("."))}:
        directory = Path(name)
        if directory.parent != home:
            continue
        if not directory.exists():
            sweep(name)
            continue
        with contextlib.suppress(FileNotFoundError), (directory / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # alive
            sweep(name)
            shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """Write a file that nobody can see half-written, not even after a kill."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.rename(path)
