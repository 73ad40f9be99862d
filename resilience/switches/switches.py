"""Switches as services use them: one attribute and one look-up a read; changes arrive from behind (SW-9)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar
from urllib.parse import unquote

from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError, Degraded, Misuse, Unavailable
from backstay.telemetry import counter, gauge
from backstay.url import choose, parse

from ..forks import renew_in_child
from .document import Document, Switch, check_name
from .model import Value, agree, standing
from .reading import Reading
from .snapshot import Snapshot, layered
from .source import Source
from .sources.file import FileSource
from .sources.memory import MemorySource
from .watcher import watch

__all__ = ["Snapshot", "State", "Status", "Switches"]

P = ParamSpec("P")
T = TypeVar("T")
State: TypeAlias = Literal["ready", "stale", "error"]

logger = logging.getLogger("backstay.resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How fresh the switches are.

    Attributes:
        state: `ready`; `stale` when the source cannot be read for a while; `error` when what it says is wrong.
        version: how many documents were applied.
        age: seconds since the source last confirmed what is in force (SW-6).
        problem: what was wrong at the last look, or an empty text.
    """

    state: State
    version: int
    age: float
    problem: str


class Switches(Reading):
    """Degradation switches that a source delivers.

    Guarantees: a read takes no lock and does no I/O; a document takes effect whole or not at all; one that is
    wrong or missing changes nothing and is reported by log, `status` and telemetry; a switch that a later
    document leaves out goes back to its default. Not guaranteed: that all processes change at the same moment;
    each looks every `interval` seconds.

        switches = Switches.connect("file:///etc/shop/switches.toml", defaults={"recommendations": True})
        if switches.enabled("recommendations"): ...

    Args:
        source: where documents come from.
        defaults: the switches there are, with what holds until a document says otherwise. A switch that is in
            neither is refused by name.
        interval: seconds between two looks, or None to look only when `refresh` is called.
        clock: monotonic seconds.
        wall: seconds since 1970, which only `until` is held against, once a look.

    Raises:
        Misuse: a name is wrong; or there are no defaults and the source has no valid document.
    """

    def __init__(
        self,
        source: Source,
        *,
        defaults: Mapping[str, Value | Switch] | None = None,
        interval: float | None = 1.0,
        clock: Clock = monotonic,
        wall: Clock = time.time,
    ) -> None:
        if interval is not None and not 0.01 <= interval <= 3600:
            raise Misuse(f"interval must be from 0.01 to 3600 s, got {interval!r}")
        self.source = source
        self.interval = interval or 0.0
        self._clock = clock
        self._defaults = {check_name(name): standing(state) for name, state in (defaults or {}).items()}
        self._document = Document(switches={})
        self._seen: dict[str, Switch] = {}
        self._overrides: dict[str, Switch] = {}
        self._version = 0
        self._problem = ""
        self._refused: str | None = None
        self._state: State = "ready"
        self._confirmed_at = clock()
        self._lock = threading.Lock()
        self._applied = {
            result: counter("config.applies", "{apply}", source=source.kind, result=result)
            for result in ("applied", "unchanged", "invalid", "unavailable")
        }
        self._wall = wall
        self._publish()
        try:
            self._look()
        except BackstayError as error:
            if not self._defaults:
                raise Misuse(f"{error}; mend it, or give defaults to start without it") from error
            self._complain(error)
        gauge("config.age", "s", self._age, source=source.kind)
        gauge("config.version", "1", self._read_version, source=source.kind)
        gauge("config.connected", "1", self._connected, source=source.kind)
        renew_in_child(self)
        if interval is not None:
            watch(self)

    @classmethod
    def connect(
        cls,
        source: str | Path | Source,
        *,
        defaults: Mapping[str, Value | Switch] | None = None,
        interval: float | None = 1.0,
    ) -> Switches:
        """Return the switches of a source.

        Args:
            source: `file:///etc/shop/switches.toml`, a path, `memory://`, or any `Source`.
            defaults: see `Switches`.
            interval: see `Switches`.

        Raises:
            Misuse: the URL is malformed, or see `Switches`.
        """
        if isinstance(source, Path):
            found: Source = FileSource(source)
        elif isinstance(source, str):
            make = choose(parse(source), _SOURCES, what="switch")
            found = make(source, defaults)
        else:
            found = source
        return cls(found, defaults=defaults, interval=interval)

    # --- reading -------------------------------------------------------------------------------------

    def refuse(self, name: str) -> Degraded:
        """Return the error for a call to a function whose switch is off."""
        reason = self.current.reason(name)
        return Degraded(f"{name!r} is switched off{': ' + reason if reason else ''}; there is no fallback for it")

    def degradable(self, name: str, *, fallback: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Return a decorator that answers with `fallback` while the switch is off or what it needs is down.

        For `def` and `async def`. `protect` says what a fallback may be and when it answers.

        Raises:
            Misuse: there is no such switch, or the fallback does not fit the function.
        """
        from ..pipeline.protect import protect

        return protect(name, switch=name, switches=self, fallback=fallback)

    def status(self) -> Status:
        """Return how fresh the switches are."""
        return Status(state=self._state, version=self._version, age=self._age(), problem=self._problem)

    # --- changing ------------------------------------------------------------------------------------

    def override(self, name: str, enabled: bool | None, *, reason: str = "set by this process") -> None:
        """Set a switch in this process, whatever the source says, until it is released with None.

        Raises:
            Misuse: there is no such switch.
        """
        with self._lock:
            self.current.enabled(name)
            if enabled is None:
                self._overrides.pop(name, None)
            else:
                self._overrides[name] = Switch(enabled=enabled, reason=reason)
            self._publish()

    def refresh(self) -> bool:
        """Look for a new document now; return whether one was applied. What is wrong is reported, not raised."""
        self._lapse()
        try:
            return self._look()
        except BackstayError as error:
            self._complain(error)
            return False

    def _lapse(self) -> None:
        """Let go of what has passed its `until`; also where the source cannot be read."""
        lapses = self.current.lapses
        if lapses is not None and self._wall() >= lapses:
            with self._lock:
                self._publish()

    @property
    def confirmed(self) -> bool:
        """Whether the source has confirmed lately what is in force."""
        return self._state == "ready"

    def _look(self) -> bool:
        with self._lock:
            document = self.source.poll()
            self._confirmed_at = self._clock()
            self._state, self._problem = "ready", ""
            if document is None and self._refused is not None:
                raise Misuse(self._refused)
            if document is None:
                self._applied["unchanged"].n += 1
                return False
            self._agree(document)
            # A switch that was once seen stays known: a reader must not fail because an operator deleted a line.
            self._seen.update({name: switch.lapsed() for name, switch in self._document.switches.items()})
            gone = sorted(set(self._document.switches) - set(document.switches))
            self._document = document
            self._version += 1
            self._publish()
            self._applied["applied"].n += 1
        if gone:
            logger.warning("%s no longer has %s: back to default", self.source.name, ", ".join(gone[:20]))
        return True

    def _agree(self, document: Document) -> None:
        """Refuse, at each look until it is replaced, a document that gives a switch another type than the program."""
        try:
            for name, expected in self._defaults.items():
                if name in document.switches:
                    agree(name, expected, document.switches[name])
        except Misuse as error:
            self._refused = str(error)
            raise
        self._refused = None

    def _publish(self) -> None:
        self.current = layered(
            seen=self._seen,
            defaults=self._defaults,
            document=self._document.switches,
            overrides=self._overrides,
            version=self._version,
            now=self._wall(),
        )
        self._on = self.current.on

    def _complain(self, error: BackstayError) -> None:
        unavailable = isinstance(error, Unavailable)
        self._applied["unavailable" if unavailable else "invalid"].n += 1
        self._state = "stale" if unavailable else "error"
        if str(error) != self._problem:  # once, not every second
            logger.warning("switches stay as they are: %s", error)
        self._problem = str(error)

    def _age(self) -> float:
        return self._clock() - self._confirmed_at

    def _read_version(self) -> float:
        return self._version

    def _connected(self) -> float:
        return 1.0 if self._state == "ready" else 0.0

    def renew(self) -> None:
        """Mark the inherited values as unconfirmed, in a forked child."""
        self._lock = threading.Lock()
        self._state = "stale"

    def __repr__(self) -> str:
        return f"Switches({self.source.name!r}, version={self._version}, {self._state})"


def _file(url: str, defaults: Mapping[str, Value | Switch] | None) -> Source:
    found = parse(url)
    if found.hosts and found.host != "localhost":
        raise Misuse(f"{url!r} names a host; write three slashes: file:///{found.host}{unquote(found.path)}")
    return FileSource(found.path)


def _memory(url: str, defaults: Mapping[str, Value | Switch] | None) -> Source:
    return MemorySource(defaults)


_SOURCES: dict[str, Callable[[str, Mapping[str, Value | Switch] | None], Source]] = {"file": _file, "memory": _memory}
