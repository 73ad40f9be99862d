"""Switches as services use them: one attribute and one look-up a read; changes arrive from behind (SW-9)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar
from urllib.parse import unquote

from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError, Degraded, Misuse, Unavailable
from backstay.telemetry import counter, gauge
from backstay.url import choose, parse

from ..forks import renew_in_child
from .document import Document, Switch, check_name
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


class Snapshot:
    """The states of all switches at one moment; never changes (SW-9)."""

    __slots__ = ("_states", "on", "version")

    def __init__(self, states: Mapping[str, Switch], version: int) -> None:
        self._states = MappingProxyType(dict(states))
        self.on = {name: state.enabled for name, state in states.items()}
        self.version = version

    def enabled(self, name: str) -> bool:
        """Return whether the function behind the switch runs.

        Raises:
            Misuse: there is no such switch.
        """
        try:
            return self.on[name]
        except KeyError:
            known = ", ".join(sorted(self.on)) or "none"
            raise Misuse(f"no switch {name!r}; known: {known}") from None

    def reason(self, name: str) -> str:
        """Return why the switch is as it is, or an empty text."""
        self.enabled(name)
        return self._states[name].reason

    @property
    def states(self) -> Mapping[str, Switch]:
        """All switches by name."""
        return self._states


class Switches:
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

    Raises:
        Misuse: a name is wrong; or there are no defaults and the source has no valid document.
    """

    def __init__(
        self,
        source: Source,
        *,
        defaults: Mapping[str, bool] | None = None,
        interval: float | None = 1.0,
        clock: Clock = monotonic,
    ) -> None:
        if interval is not None and not 0.01 <= interval <= 3600:
            raise Misuse(f"interval must be from 0.01 to 3600 s, got {interval!r}")
        self.source = source
        self.interval = interval or 0.0
        self._clock = clock
        self._defaults = {check_name(name): Switch(enabled=bool(state)) for name, state in (defaults or {}).items()}
        self._document = Document(switches={})
        self._seen: dict[str, Switch] = {}
        self._overrides: dict[str, Switch] = {}
        self._version = 0
        self._problem = ""
        self._state: State = "ready"
        self._confirmed_at = clock()
        self._lock = threading.Lock()
        self._applied = {
            result: counter("config.applies", "{apply}", source=source.kind, result=result)
            for result in ("applied", "unchanged", "invalid", "unavailable")
        }
        self.current = Snapshot(self._defaults, 0)
        self._on = self.current.on
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
        defaults: Mapping[str, bool] | None = None,
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

    def enabled(self, name: str) -> bool:
        """Return whether the function behind the switch runs.

        Raises:
            Misuse: there is no such switch; the text names those that there are.
        """
        try:
            return self._on[name]
        except KeyError:
            return self.current.enabled(name)

    def snapshot(self) -> Snapshot:
        """Return the states of all switches now, for a request that wants one view from start to end."""
        return self.current

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
        try:
            return self._look()
        except BackstayError as error:
            self._complain(error)
            return False

    def _look(self) -> bool:
        with self._lock:
            document = self.source.poll()
            self._confirmed_at = self._clock()
            self._state, self._problem = "ready", ""
            if document is None:
                self._applied["unchanged"].n += 1
                return False
            # A switch that was once seen stays known: a reader must not fail because an operator deleted a line.
            self._seen.update(dict.fromkeys(self._document.switches, Switch(enabled=True)))
            gone = sorted(set(self._document.switches) - set(document.switches))
            self._document = document
            self._version += 1
            self._publish()
            self._applied["applied"].n += 1
        if gone:
            logger.warning("%s no longer has %s: back to default", self.source.name, ", ".join(gone[:20]))
        return True

    def _publish(self) -> None:
        states = {**self._seen, **self._defaults, **self._document.switches, **self._overrides}
        self.current = Snapshot(states, self._version)
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


def _file(url: str, defaults: Mapping[str, bool] | None) -> Source:
    found = parse(url)
    if found.hosts and found.host != "localhost":
        raise Misuse(f"{url!r} names a host; write three slashes: file:///{found.host}{unquote(found.path)}")
    return FileSource(found.path)


def _memory(url: str, defaults: Mapping[str, bool] | None) -> Source:
    return MemorySource(defaults)


_SOURCES: dict[str, Callable[[str, Mapping[str, bool] | None], Source]] = {"file": _file, "memory": _memory}
