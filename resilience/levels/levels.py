"""All levels of a process: the resources, what is ordered for all of them, the section of a document."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..bulkhead import Bulkhead
from ..circuit_breaker import CircuitBreaker
from ..fallback import Fallback
from ..forks import renew_in_child
from ..policy import Policy, compose, target_of
from .actions import Actions
from .document import Applying, Entry, entry_of
from .events import Listener, Post
from .manual import Orders
from .policy import LevelPolicy
from .resource import Resource
from .settings import LevelSettings
from .words import Level

__all__ = ["EVERYTHING", "Levels"]

P = ParamSpec("P")
T = TypeVar("T")

EVERYTHING = "*"
"""The name of all resources together."""

_ABSENT = Entry(orders=Orders(), thresholds={}, actions={})


class Levels:
    """The levels of a process's resources, and the consumer of a document's section `levels`.

        levels = Levels()
        catalogue = levels.of("catalogue")

        @levels.degradable("catalogue", fallback=[])
        def products(): ...

    Evaluations ride on calls: who counts a call evaluates when it is time. A resource that is not called stays
    as it is until `evaluate` is called.

    Args:
        settings: of all resources that are given none.
        actions: of all resources that are given none.
        spread: whether the level that all calls together earn is the least level of each resource; otherwise only
            what is ordered for `levels.everything` is.
        clock: monotonic seconds.
        wall: seconds since 1970, read for the ends of a document's pins when the document arrives.
    """

    section = "levels"

    def __init__(
        self,
        settings: LevelSettings | None = None,
        actions: Actions | None = None,
        *,
        spread: bool = False,
        clock: Clock = monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._settings = LevelSettings() if settings is None else LevelSettings.of(settings)
        self._actions = Actions() if actions is None else actions
        self._clock = clock
        self._wall = wall
        self._lock, self._hiding = threading.RLock(), threading.Lock()
        self._post = Post()
        self._hidden: frozenset[str] = frozenset()
        self._resources: dict[str, Resource] = {}
        self._bases: dict[str, tuple[LevelSettings, Actions]] = {}
        self._document: Mapping[str, Entry] = {}
        self.everything = self._make(EVERYTHING, self._settings, self._actions, spread)
        renew_in_child(self)

    def of(
        self,
        name: str,
        *watched: CircuitBreaker | Bulkhead,
        settings: LevelSettings | None = None,
        actions: Actions | None = None,
        required: Callable[[], bool] | None = None,
    ) -> Resource:
        """Return the resource `name`, made when it is asked for first.

        Args:
            name: of the resource.
            watched: breakers and bulkheads to look at as well.
            settings: for the first time that it is asked for.
            actions: likewise.
            required: says whether a dependency is down without which nothing goes; quick.

        Raises:
            Misuse: there is no name, or settings come after the resource was made.
        """
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"a resource needs its name, as in levels.of('catalogue'), got {name!r}")
        with self._lock:
            resource = self._resources.get(name)
            if resource is None:
                resource = self._make(name, settings or self._settings, actions or self._actions, False)
                self._tell(resource, self._document.get(name, _ABSENT))
            elif settings is not None or actions is not None:
                raise Misuse(f"{name!r} has its settings already; change them by reconfigure()")
        resource.watch(*watched, required=required)
        return resource

    def level(self, name: str) -> str:
        """Return the word of a resource's level, such as `error`."""
        return self.of(name).level.word

    def at_least(self, level: Level, name: str = EVERYTHING) -> bool:
        """Whether a resource, or all together, is degraded so far or further."""
        return (self.everything if name == EVERYTHING else self.of(name)).level >= level

    def words(self) -> dict[str, str]:
        """Return the word of each level by resource, as heartbeats carry them."""
        return {name: resource.level.word for name, resource in tuple(self._resources.items())}

    def signals(self) -> dict[str, dict[str, Any]]:
        """Return by resource what its level was judged by, and why it has it."""
        return {name: {"cause": resource.cause, **resource.sample} for name, resource in tuple(self._resources.items())}

    def shows(self, block: str) -> bool:
        """Whether a block of a page is shown; one that no resource hides always is. One look-up."""
        return block not in self._hidden

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called with each `LevelChange`; return what ends that."""
        return self._post.listen(listener)

    def policy(self, name: str) -> LevelPolicy:
        """Return the policy of a resource, for a pipeline; it may stand in any number of them."""
        return LevelPolicy(self.of(name))

    def degradable(self, name: str, **fallback: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Return a decorator for a function whose calls feed the level, and are refused where it says so.

        Args:
            name: of the resource.
            fallback: `fallback=` is a value, or a function of the same arguments, that answers for a call that was
                refused; without it `Degraded` is raised.

        Raises:
            Misuse: the fallback does not fit.
        """
        if fallback.keys() - {"fallback"}:
            raise Misuse(f"degradable takes the resource and fallback=, got {', '.join(sorted(fallback))}")
        policies: list[Policy] = [self.policy(name)]
        if fallback:
            policies.append(Fallback(name, answer=fallback["fallback"]))

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            protected: Callable[P, T] = compose(policies, target_of(function, name))
            return protected

        return decorate

    def evaluate(self) -> None:
        """Evaluate every resource whose time it is, and let ended pins go."""
        for resource in tuple(self._resources.values()):
            resource.evaluate()

    # -- the section of a document

    def prepare(self, section: Mapping[str, Any]) -> Applying:
        """Check a section, and change nothing.

        Raises:
            Misuse: anything in it is not understood.
        """
        wall, now = self._wall(), self._clock()
        entries = {name: entry_of(name, given, wall=wall, now=now) for name, given in section.items()}
        for name, entry in entries.items():
            settings, actions = self._bases.get(name, (self._settings, self._actions))
            try:
                entry.settings(settings)
                entry.acts(actions, actions)
            except Misuse as error:
                raise Misuse(f"level {name!r}: {error}") from error
        return Applying(self._put, entries)

    def lapse(self) -> float | None:
        """Let go of pins that have ended; return in how many seconds another will, or None."""
        for resource in tuple(self._resources.values()):
            resource.refresh()
        ends = [resource.pin_ends_in() for resource in tuple(self._resources.values())]
        return min((end for end in ends if end is not None), default=None)

    def renew(self) -> None:
        """Make it usable in a forked child."""
        self._lock, self._hiding = threading.RLock(), threading.Lock()
        self._post.renew()

    # -- inside

    def _make(self, name: str, settings: LevelSettings, actions: Actions, spread: bool) -> Resource:
        parent = None if name == EVERYTHING else self.everything
        resource = Resource(
            name, settings, actions, clock=self._clock, post=self._post, changed=self._heard, parent=parent,
            spread=spread,
        )  # fmt: skip
        self._bases[name] = (settings, actions)
        self._resources[name] = resource
        if parent is not None:
            resource.refresh()
        return resource

    def _put(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry]:
        with self._lock:
            old, self._document = self._document, entries
            for name, resource in tuple(self._resources.items()):
                if name in old or name in entries:
                    self._tell(resource, entries.get(name, _ABSENT))
            return old

    def _tell(self, resource: Resource, entry: Entry) -> None:
        settings, actions = self._bases[resource.name]
        resource.reconfigure(entry.settings(settings), entry.acts(actions, resource.actions))
        resource.ordered(entry.orders)

    def _heard(self, resource: Resource) -> None:
        resources = tuple(self._resources.values())
        with self._hiding:  # who comes last sees what all before have changed
            self._hidden = frozenset[str]().union(*(each.actions.hidden(each.level) for each in resources))
        if resource.name == EVERYTHING:
            for each in resources:
                if each is not resource:
                    each.refresh()
