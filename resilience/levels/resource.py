"""One resource's level: counted calls, watched policies and orders on one side, one attribute on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType

from backstay.clock import Clock
from backstay.errors import Degraded
from backstay.telemetry import gauge

from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker
from ..forks import renew_in_child
from .actions import Actions
from .events import LevelChange, Post
from .machine import Machine
from .manual import Orders, Pin, decide
from .settings import LevelSettings
from .signals import Watched, outcome_of, readings
from .window import ERROR, OK, TIMEOUT, Window
from .words import Level

__all__ = ["PROBING", "Resource"]

PROBING: ContextVar[str | None] = ContextVar("backstay_level_probing", default=None)
"""The resource whose probe the present request is, so that what is further in does not thin the share again."""

_NOTHING: Mapping[str, float] = MappingProxyType({})


class Resource:
    """A resource and its level. Made by `Levels.of`; `level`, `read`, `write` are plain attributes, read at will.

    Attributes:
        name: of the resource; `*` for all together.
        level: the level that counts now.
        read: how far up a read chain reads go at this level, a word of `READS`.
        write: how writes are done at this level, a word of `WRITES`.
        static: whether a static page answers.
        refused: whether calls are refused, but for probes.
        sample: the readings of the last evaluation.
    """

    __slots__ = (
        "__weakref__", "_actions", "_asked", "_changed", "_clock", "_document", "_due", "_here", "_lock", "_machine",
        "_number", "_parent", "_post", "_probed", "_run", "_settings", "_turn", "_watched", "_window", "cause",
        "level", "name", "read", "refused", "sample", "spread", "static", "write",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        settings: LevelSettings,
        actions: Actions,
        *,
        clock: Clock,
        post: Post,
        changed: Callable[[Resource], None],
        parent: Resource | None = None,
        spread: bool = False,
    ) -> None:
        self.name = name
        self.level = Level.NORMAL
        self.cause = "default"
        self.sample = _NOTHING
        self.spread = spread
        self._settings: LevelSettings = settings
        self._actions: Actions = actions
        self._clock = clock
        self._post = post
        self._changed = changed
        self._parent = parent
        self._machine = Machine(settings)
        self._window: Window = Window(settings.window)
        self._watched = Watched()
        self._here: Orders = Orders()
        self._document: Orders = Orders()
        self._number = 0
        self._run = 0
        self._asked = 0
        self._probed: float = float("-inf")
        self._due: float = float("-inf")
        self._lock = threading.Lock()
        self._turn = threading.RLock()
        self._act()
        about = {"resource": name, "policy_name": name, "policy_type": "degrade"}
        gauge("degrade.level", "1", self._automatic, **about, mode="auto")
        gauge("degrade.level", "1", self._manual, **about, mode="manual")
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"Resource({self.name!r}, {self.level.word}, {self.cause})"

    # -- what is said of it

    def at_least(self, level: Level) -> bool:
        """Whether it is degraded so far, or further."""
        return self.level >= level

    @property
    def automatic(self) -> Level:
        """What the machine says, whatever was ordered by hand."""
        return self._machine.level

    @property
    def settings(self) -> LevelSettings:
        """The settings in force."""
        return self._settings

    @property
    def actions(self) -> Actions:
        """What the levels mean."""
        return self._actions

    def enabled(self) -> bool:
        """Whether a call should go the real way: the resource as a switch that turns itself off, and on by probes.

        Who asks tells by `record` how the call went.
        """
        return not self.refused or self.probe()

    def reach(self) -> str:
        """Return how far a read goes now, for `ReadChain(reach=...)`; a share of probes goes to the origin."""
        return self.read if self.read == "origin" or not self.probe() else "origin"

    def refusal(self) -> Degraded:
        """Return the error for a call that is refused."""
        return Degraded(
            f"{self.name!r} is degraded ({self.level.word}, {self.cause}); give a fallback, or ask again later",
            retry_after=self._settings.probe_every,
        )

    # -- what it hears

    def record(self, error: BaseException | None) -> None:
        """Count how a call went: None for well, else what it raised."""
        outcome = outcome_of(error)
        if outcome is None:
            return
        now = self._clock()
        self._count(outcome, now)
        if self._parent is not None:
            self._parent._count(outcome, now)
            if now >= self._parent._due:
                self._parent.evaluate()
        if now >= self._due:
            self.evaluate()

    def probe(self) -> bool:
        """Whether this call goes the real way although others do not (DG-3)."""
        if PROBING.get() == self.name:
            return True
        settings, now = self._settings, self._clock()
        share, every = settings.probe_share, settings.probe_every
        with self._lock:
            self._asked += 1
            if self._asked * share < 1 and now - self._probed < every:
                return False
            self._asked, self._probed = 0, now
            return True

    def watch(self, *policies: CircuitBreaker | Bulkhead, required: Callable[[], bool] | None = None) -> None:
        """Look at other policies at each evaluation; a breaker's change asks for one at once.

        Args:
            policies: circuit breakers and bulkheads.
            required: says whether a dependency is down without which nothing goes; quick.
        """
        watched = self._watched
        for policy in policies:
            if isinstance(policy, CircuitBreaker):
                watched.breakers = (*watched.breakers, policy)
                policy.listen(self._heard)
            else:
                watched.bulkheads = (*watched.bulkheads, policy)
        if required is not None:
            watched.required = (*watched.required, required)

    def evaluate(self) -> None:
        """Look at all signals, now if an evaluation is due, and change the level if it is time."""
        now = self._clock()
        with self._turn:
            if now < self._due:
                return
            self._due = now + self._settings.every
        with self._lock:
            counts, run = self._window.sums(now), self._run
        found = readings(counts, run, self._settings)
        found.update(self._watched.readings(counts, self._settings.minimum_calls))
        with self._turn:
            self.sample = {name: each.value for name, each in found.items() if each.value is not None}
            moved = self._machine.step(found, now)
            self._decide(now, None if moved is None else moved.cause)
        self._post.deliver()

    # -- what is ordered

    def force(self, level: Level) -> None:
        """Keep it at `level` until `release`; outranks everything."""
        with self._turn:
            self._order(Orders(force=level, pin=self._here.pin))
        self._post.deliver()

    def pin(self, level: Level, seconds: float) -> None:
        """Keep it at `level` for so many seconds; only a force outranks it."""
        now = self._clock()
        with self._turn:
            self._order(Orders(force=self._here.force, pin=Pin(level, now + seconds)))
        self._post.deliver()

    def release(self) -> None:
        """Take back force and pin of this process: the document, or the machine as it stands, decides again."""
        self._order(Orders())
        self._post.deliver()

    def ordered(self, document: Orders) -> None:
        """Take the orders of a document."""
        with self._turn:
            self._order(self._here, document)
        self._post.deliver()

    def refresh(self) -> None:
        """Let ended pins go, and follow what was ordered for all."""
        with self._turn:
            self._order(self._here)
        self._post.deliver()

    def reconfigure(self, settings: LevelSettings, actions: Actions | None = None) -> None:
        """Go on under other settings, with the level and what is counted as they are."""
        with self._turn:
            with self._lock:
                if settings.window != self._settings.window:
                    self._window = self._window.resized(settings.window)
            self._settings = settings
            self._machine.settings = settings
            self._actions = actions or self._actions
            self._act()
        self._changed(self)

    def pin_ends_in(self) -> float | None:
        """Return the seconds until a pin of the document ends, or None."""
        pin = self._document.pin
        return None if pin is None else max(0.0, pin.until - self._clock())

    def renew(self) -> None:
        """Make it usable in a forked child."""
        self._lock, self._turn = threading.Lock(), threading.RLock()

    @property
    def floor(self) -> Level:
        """The least level of every resource, where this is the one for all."""
        order = decide(self._here, self._document, self._clock())
        if order is not None:
            return order[0]
        return self._machine.level if self.spread else Level.NORMAL

    # -- inside

    def _count(self, outcome: int, now: float) -> None:
        second = int(now)
        with self._lock:
            window = self._window
            slot = window.slots[second % window.width]
            if slot[0] != second:
                slot[:] = (second, 0, 0, 0, 0, 0)
            slot[outcome] += 1
            if outcome == OK:
                self._run += 1
            elif outcome in (ERROR, TIMEOUT):
                self._run = 0

    def _heard(self, _: object) -> None:
        self._due = float("-inf")
        self.evaluate()

    def _order(self, here: Orders, document: Orders | None = None) -> None:
        now = self._clock()
        with self._turn:
            self._here = here.at(now)
            self._document = (self._document if document is None else document).at(now)
            self._decide(now, None)

    def _decide(self, now: float, cause: str | None) -> None:
        order = decide(self._here, self._document, now)
        level, why = self._machine.level, cause or "released"
        if order is not None:
            level, why = order
        elif self._parent is not None and self._parent.floor > level:
            level, why = self._parent.floor, "global"
        if level == self.level:
            if order is not None:
                self.cause = why
            return
        before, self.level, self.cause = self.level, level, why
        self._number += 1
        self._act()
        self._post.add(
            LevelChange(
                resource=self.name, number=self._number, before=before, after=level, cause=why, sample=self.sample
            )
        )
        self._changed(self)

    def _act(self) -> None:
        actions, level = self._actions, self.level
        self.read, self.write = actions.reads(level), actions.writes(level)
        self.static = actions.static is not None and level >= actions.static
        self.refused = actions.refuse is not None and level >= actions.refuse

    def _automatic(self) -> float:
        return float(self._machine.level)

    def _manual(self) -> float:
        order = decide(self._here, self._document, self._clock())
        return float(order[0]) if order is not None and order[1] != "remote" else 0.0
