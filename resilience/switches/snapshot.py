"""All switches at one moment, ready for reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from backstay.errors import Misuse

from .evaluation import Chosen, Key, Rule
from .model import Switch

__all__ = ["Snapshot", "layered"]


class Snapshot:
    """The states of all switches at one moment; never changes (SW-9).

    Args:
        states: switches by name.
        version: counts what was applied.
        defaulted: names of which no document says anything.
        lapses: seconds since 1970 at which something in it stops counting, or None.
    """

    __slots__ = ("_rules", "_states", "lapses", "on", "version")

    def __init__(
        self,
        states: Mapping[str, Switch],
        version: int,
        *,
        defaulted: Collection[str] = (),
        lapses: float | None = None,
    ) -> None:
        self._states = MappingProxyType(dict(states))
        self._rules = {name: Rule(name, state, defaulted=name in defaulted) for name, state in states.items()}
        self.on: dict[str, bool | None] = {name: rule.plain for name, rule in self._rules.items()}
        self.version = version
        self.lapses = lapses

    def enabled(self, name: str, key: Key | None = None) -> bool:
        """Return whether the function behind the switch runs; see `Reading.enabled`.

        Raises:
            Misuse: there is no such switch.
        """
        try:
            on = self.on[name]
        except KeyError:
            raise self.missing(name) from None
        if on is not None:
            return on
        return self.on_for(name, key)

    def on_for(self, name: str, key: Key | None) -> bool:
        """Return whether the function runs, of a switch that there is."""
        rule = self._rules[name]
        return rule.pick(key).on if type(key) is str else rule.choose(key).on

    def choose(self, name: str, key: Key | None = None) -> Chosen:
        """Return value, variant and cause of a switch for a key.

        Raises:
            Misuse: there is no such switch.
        """
        try:
            return self._rules[name].choose(key)
        except KeyError:
            raise self.missing(name) from None

    def typed(self, name: str, key: Key | None, kind: str) -> Any:
        """Return the value of a switch of this type.

        Raises:
            Misuse: there is no such switch, or it is of another type.
        """
        try:
            rule = self._rules[name]
        except KeyError:
            raise self.missing(name) from None
        if rule.switch.kind != kind:
            raise Misuse(f"switch {name!r} is a {rule.switch.kind}, not a {kind}; defaults={{...}} fix what it can be")
        return rule.choose(key).value

    def reason(self, name: str) -> str:
        """Return why the switch is as it is, or an empty text."""
        return self.state(name).reason

    def state(self, name: str) -> Switch:
        """Return what is in force of a switch.

        Raises:
            Misuse: there is no such switch.
        """
        try:
            return self._states[name]
        except KeyError:
            raise self.missing(name) from None

    @property
    def states(self) -> Mapping[str, Switch]:
        """All switches by name."""
        return self._states

    def missing(self, name: str) -> Misuse:
        """Return the error for a switch that there is not."""
        known = ", ".join(sorted(self.on)) or "none"
        return Misuse(f"no switch {name!r}; known: {known}")


def layered(
    *,
    seen: Mapping[str, Switch],
    defaults: Mapping[str, Switch],
    document: Mapping[str, Switch],
    overrides: Mapping[str, Switch],
    version: int,
    now: float,
) -> Snapshot:
    """Return what holds where several say something of a switch: overrides before the document before defaults.

    Args:
        seen: switches of earlier documents, with what holds now that nothing is said of them.
        defaults: what the program says.
        document: what the operators say; a switch whose `until` has passed counts as though left out.
        overrides: what this process says; one without variants turns a switch that has them on or off.
        version: counts what was applied.
        now: seconds since 1970; read here, once a refresh, and never when a switch is read.
    """
    states = {**seen, **defaults}
    said: set[str] = set()
    lapses: list[float] = []
    for layer in (document, overrides):
        for name, switch in layer.items():
            expires = switch.expires
            if expires is not None and expires <= now:
                if name not in states:
                    states[name] = switch.lapsed()
                continue
            below = states.get(name)
            if layer is overrides and not switch.variants and below is not None and below.variants:
                states[name] = below.forced(switch.enabled, switch.reason)
            else:
                states[name] = switch
            said.add(name)
            if expires is not None:
                lapses.append(expires)
    return Snapshot(states, version, defaulted=set(states) - said, lapses=min(lapses, default=None))
