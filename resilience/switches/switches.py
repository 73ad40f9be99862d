"""Switches as services use them: one attribute and one look-up a read; changes arrive from behind (SW-9)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

from backstay.clock import Clock, monotonic
from backstay.errors import Degraded, Misuse
from backstay.url import parse

from ..delivery.connect import source_of
from ..delivery.pace import Pace
from ..delivery.plane import Plane
from ..delivery.port import Source as DeliverySource
from ..delivery.replica import State
from ..forks import renew_in_child
from .applying import Applying
from .document import Switch, check_name, read
from .evaluation import Key
from .model import Value, agree, standing
from .pins import PinnedReads, pin, pinned
from .polled import Polled
from .reading import Reading
from .snapshot import Snapshot, layered
from .source import Source
from .sources.memory import MemorySource

__all__ = ["Interval", "Snapshot", "State", "Status", "Switches"]

P = ParamSpec("P")
T = TypeVar("T")
Interval: TypeAlias = "float | Literal['usual'] | None"

logger = logging.getLogger("backstay.resilience")

_NEAR, _FAR = 1.0, 30.0
"""Usual seconds between two looks at a source on this host, and at one elsewhere, which tells of news by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How fresh the switches are.

    Attributes:
        state: `starting` before the first look has ended; `ready`; `stale` when the source does not confirm what is
            in force; `error` when that lasts, or when what the source says is wrong.
        version: of the document in force; sources without versions count the documents that they gave.
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
    each looks every `interval` seconds, and sooner where the source tells of news.

        switches = Switches.connect("file:///etc/shop/switches.toml", defaults={"recommendations": True})
        if switches.enabled("recommendations"): ...

    Args:
        source: where documents come from; or a `Plane`, which brings them to others as well and is started by whom
            it belongs to.
        defaults: the switches there are, with what holds until a document says otherwise. A switch that is in
            neither is refused by name.
        interval: seconds between two looks, or None to look only when `refresh` is called; usually 1 for sources on
            this host, and 30 for others.
        keep: a file for the last document that was applied, for a start without the source (SW-7).
        clock: monotonic seconds.
        wall: seconds since 1970, which only `until` is held against, once a look.

    Raises:
        Misuse: a name is wrong; or there are no defaults and the source has no valid document.
    """

    section = "switches"

    def __init__(
        self,
        source: Source | DeliverySource | Plane,
        *,
        defaults: Mapping[str, Value | Switch] | None = None,
        interval: Interval = "usual",
        keep: str | Path | None = None,
        clock: Clock = monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._defaults = {check_name(name): standing(state) for name, state in (defaults or {}).items()}
        self._document: Mapping[str, Switch] = {}
        self._seen: dict[str, Switch] = {}
        self._overrides: dict[str, Switch] = {}
        self._version = 0
        self._wall = wall
        self._lock = threading.Lock()
        self._pinned_reads: PinnedReads | None = None
        self._publish()
        if isinstance(source, Plane):
            self.plane = source
        else:
            delivered = source if isinstance(source, DeliverySource) else Polled(source)
            self.plane = Plane(delivered, keep=keep, pace=_pace(interval, delivered.kind), clock=clock)
        self.plane.attach(self)
        renew_in_child(self)
        if not isinstance(source, Plane):
            self.plane.start(watched=interval is not None)
            failure = self.plane.failure
            if failure is not None and self._version == 0 and not self._defaults:
                self.plane.close()
                raise Misuse(f"{failure}; mend it, or give defaults to start without it") from failure

    @classmethod
    def connect(
        cls,
        source: str | Path | Source | DeliverySource | Plane,
        *,
        defaults: Mapping[str, Value | Switch] | None = None,
        interval: Interval = "usual",
        keep: str | Path | None = None,
    ) -> Switches:
        """Return the switches of a source.

        Args:
            source: `file:///etc/shop/switches.toml`, a path, `memory://`, `http://:TOKEN@host:8321/shop/production`,
                any `Source`, or a `Plane`.
            defaults: see `Switches`.
            interval: see `Switches`.
            keep: see `Switches`.

        Raises:
            Misuse: the URL is malformed, or see `Switches`.
        """
        found: Source | DeliverySource | Plane
        if isinstance(source, str) and parse(source).scheme == "memory":
            found = MemorySource(defaults)
        else:
            found = source_of(source) if isinstance(source, str | Path) else source
        return cls(found, defaults=defaults, interval=interval, keep=keep)

    # --- reading -------------------------------------------------------------------------------------

    @property
    def current(self) -> Snapshot:  # type: ignore[override]  # read-only: what is in force comes from the plane
        """The view of this request if it has pinned one, else the latest."""
        if self._pinned_reads is None:
            return self._latest
        return pinned(self) or self._latest

    def pinned(self) -> AbstractContextManager[Snapshot]:
        """Return a block in which every read sees the switches as they are now (SW-9).

            with switches.pinned():
                ...

        For a request, in a middleware: it holds for the thread or task that enters it and for what that awaits and
        starts. From its first use on every read in the process costs about 0.1 us more.
        """
        with self._lock:
            if self._pinned_reads is None:
                self._pinned_reads = PinnedReads(lambda: self.current)
                self._on = self._pinned_reads
        return pin(self, self.current)

    def refuse(self, name: str) -> Degraded:
        """Return the error for a call to a function whose switch is off."""
        reason = self.current.reason(name)
        return Degraded(f"{name!r} is switched off{': ' + reason if reason else ''}; there is no fallback for it")

    def degradable(
        self, name: str, *, fallback: Any, key: str | Callable[..., Key] | None = None
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Return a decorator that answers with `fallback` while the switch is off or what it needs is down.

        For `def` and `async def`. `protect` says what a fallback may be and when it answers.

        Args:
            name: of the switch.
            fallback: what answers instead.
            key: whose share of a percentage a call counts to: a template of the function's parameters such as
                `"{customer_id}"`, or a function of the call's arguments.

        Raises:
            Misuse: there is no such switch, or the fallback or the key does not fit the function.
        """
        from ..fallback import Fallback
        from ..pipeline.pipeline import Pipeline
        from ..pipeline.protect import protect
        from .policy import SwitchPolicy

        if key is None:
            return protect(name, switch=name, switches=self, fallback=fallback)
        answers = fallback if isinstance(fallback, Fallback) else Fallback(name, answer=fallback)
        return Pipeline(name, SwitchPolicy(self, name, key=key), answers, switches=self)

    def status(self) -> Status:
        """Return how fresh the switches are."""
        found = self.plane.status()
        return Status(state=found.state, version=found.version, age=found.age, problem=found.problem)

    @property
    def confirmed(self) -> bool:
        """Whether the source has confirmed lately what is in force."""
        return self.plane.status().state == "ready"

    @property
    def source(self) -> Source | DeliverySource:
        """Where documents come from."""
        found = self.plane.source
        return found.source if isinstance(found, Polled) else found

    @source.setter
    def source(self, source: Source | DeliverySource) -> None:
        there = self.plane.source
        if isinstance(there, Polled) and not isinstance(source, DeliverySource):
            there.source = source  # versions go on
        else:
            self.plane.source = source if isinstance(source, DeliverySource) else Polled(source)

    # --- changing ------------------------------------------------------------------------------------

    def override(self, name: str, enabled: bool | None, *, reason: str = "set by this process") -> None:
        """Set a switch in this process, whatever the source says, until it is released with None.

        Raises:
            Misuse: there is no such switch.
        """
        with self._lock:
            self._latest.state(name)
            if enabled is None:
                self._overrides.pop(name, None)
            else:
                self._overrides[name] = Switch(enabled=enabled, reason=reason)
            self._publish()

    def refresh(self) -> bool:
        """Look for a new document now; return whether one was applied. What is wrong is reported, not raised."""
        return self.plane.refresh()

    def prepare(self, section: Mapping[str, Any]) -> Applying:
        """Return the change that a section of switches stands for, checked, and change nothing yet.

        Raises:
            Misuse: anything in it is not understood, or gives a switch another type than the program.
        """
        document = read(section)
        for name, expected in self._defaults.items():
            if name in document:
                agree(name, expected, document[name])
        given = self.plane.given
        return Applying(self._put, document, version=given.version if given is not None else self._version + 1)

    def _put(self, document: Mapping[str, Switch], version: int) -> Callable[[], None]:
        """Let a document count; return what takes it back."""
        with self._lock:
            before, seen, old = self._document, dict(self._seen), self._version
            # A switch that was once seen stays known: a reader must not fail because an operator deleted a line.
            self._seen.update({name: switch.lapsed() for name, switch in before.items()})
            self._document, self._version = document, version
            self._publish()
        gone = sorted(set(before) - set(document))
        if gone:
            logger.warning("%s no longer has %s: back to default", self.plane.source.name, ", ".join(gone[:20]))

        def back() -> None:
            with self._lock:
                self._document, self._seen, self._version = before, seen, old
                self._publish()

        return back

    def lapse(self) -> float | None:
        """Let go of what has passed its `until`; return in how many seconds something else will have, or None."""
        lapses = self._latest.lapses
        if lapses is not None and self._wall() >= lapses:
            with self._lock:
                self._publish()
            lapses = self._latest.lapses
        return None if lapses is None else max(0.0, lapses - self._wall())

    def _publish(self) -> None:
        self._latest = layered(
            seen=self._seen,
            defaults=self._defaults,
            document=self._document,
            overrides=self._overrides,
            version=self._version,
            now=self._wall(),
        )
        self._on = self._latest.on if self._pinned_reads is None else self._pinned_reads

    def renew(self) -> None:
        """Mark the inherited values as unconfirmed, in a forked child."""
        self._lock = threading.Lock()
        self.plane.renew()

    def __repr__(self) -> str:
        status = self.plane.status()
        return f"Switches({self.plane.source.name!r}, version={status.version}, {status.state})"


def _pace(interval: Interval, kind: str) -> Pace:
    if interval == "usual" or interval is None:
        return Pace(pull_interval=_NEAR if kind in {"file", "memory"} else _FAR)
    if not 0.01 <= interval <= 3600:
        raise Misuse(f"interval must be from 0.01 to 3600 s, got {interval!r}")
    return Pace(pull_interval=interval)
