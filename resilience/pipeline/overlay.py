"""What a document changes about a pipeline that code made: planned as a whole, then applied, or taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from backstay.errors import Misuse

from ..policy import Policy
from ..switches.switches import Switches
from .arrangement import Entry, Order, Placed, check_order
from .rules import warn_of
from .vocabulary import WORDS, Word, word_of

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["Change", "Overlay", "Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A policy that a document brought, and what it said."""

    policy: Policy
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a document comes to: the policies there will be, and the settings that change."""

    entries: tuple[Entry, ...]
    order: Order
    settings: tuple[tuple[Any, Any], ...]
    made: Mapping[str, Made]
    base: Overlay


class Overlay:
    """The policies and settings that code gave, and the policies that documents added to them."""

    def __init__(self, name: str, entries: Sequence[Entry], order: Order, switches: Switches | None) -> None:
        self.name = name
        self.entries = tuple(entries)
        self.order = order
        self.made: Mapping[str, Made] = {}
        self._switches = switches
        self._settings = [_settings_of(_policy(entry)) for entry in entries]

    def moved(self, entries: Sequence[Entry], order: Order) -> Overlay:
        """Return one for other policies; those that stay are remembered with the settings that code gave them."""
        made = Overlay(self.name, entries, order, self._switches)
        known = {id(_policy(entry)): own for entry, own in zip(self.entries, self._settings, strict=True)}
        made._settings = [
            known.get(id(_policy(entry)), now) for entry, now in zip(made.entries, made._settings, strict=True)
        ]
        return made

    def plan(self, document: Mapping[str, Any]) -> Plan:
        """Check a document as a whole.

        Raises:
            Misuse: see `Pipeline.reconfigure`.
        """
        given, order = self._read(document)
        entries: list[Entry] = []
        settings: list[tuple[Any, Any]] = []
        made: dict[str, Made] = {}
        mine = [word_of(_policy(entry)) for entry in self.entries]
        for entry, word, own in zip(self.entries, mine, self._settings, strict=True):
            policy = _policy(entry)
            if word is None or word.name not in given:
                entries.append(entry)
                settings.append((policy, own))
                continue
            if mine.count(word) > 1:
                raise Misuse(f"pipeline {self.name!r} has several policies of {word.name!r}: change them by code")
            value = given[word.name]
            if value is False:
                continue
            wanted = self._checked(word, value)
            if wanted is None:
                made[word.name] = self._make(word, value)
                entries.append(made[word.name].policy)
            else:
                entries.append(entry)
                settings.append((policy, wanted))
        for name, value in given.items():
            word = WORDS[name]
            if word in mine or value is False:
                continue
            made[name] = self._make(word, value)
            entries.append(made[name].policy)
            settings.append((made[name].policy, self._checked(word, value)))
        changes = tuple(
            (policy, wanted) for policy, wanted in settings if wanted is not None and _settings_of(policy) != wanted
        )
        return Plan(entries=tuple(entries), order=order, settings=changes, made=made, base=self)

    def _read(self, document: Any) -> tuple[dict[str, Any], Order]:
        if not isinstance(document, Mapping):
            raise Misuse(f"pipeline {self.name!r}: expected a table such as {{'retry': 3}}, got {document!r:.80}")
        table = cast("dict[Any, Any]", document)
        given: dict[str, Any] = {str(word): value for word, value in table.items()}
        order: Order = self.order
        if "order" in given:
            order = check_order(self.name, given.pop("order"))
        for word in given:
            if word not in WORDS:
                known = ", ".join(sorted((*WORDS, "order")))
                raise Misuse(f"pipeline {self.name!r} has no policy {word!r}; known: {known}")
        return given, order

    def _checked(self, word: Word, value: Any) -> Any:
        return word.settings(value, f"{word.name} of {self.name!r}")

    def _make(self, word: Word, value: Any) -> Made:
        """Return the policy of a word: the one that there is, where it can be changed or need not be."""
        there = self.made.get(word.name)
        wanted = self._checked(word, value)
        if there is not None and (wanted is not None or there.value == value):
            return Made(policy=there.policy, value=value)
        try:
            return Made(policy=word.make(self.name, value, self._switches), value=value)
        except Misuse as error:
            raise Misuse(f"{word.name} of {self.name!r}: {error}") from error


class Change:
    """A plan whose chains are known to compile.

    Attributes:
        name: of the pipeline.
        changes: whether anything is to change.
        emptied: whether all that documents brought goes.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan, policies: tuple[Policy, ...]) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._policies = policies
        self._old: list[tuple[Any, Any]] = []
        self._before = (pipeline.policies, plan.base.made)
        self._before_order = pipeline.order
        self.name = pipeline.name
        self.changes = bool(plan.settings) or pipeline.policies != policies
        self.emptied = bool(plan.base.made) and not plan.made

    def apply(self) -> None:
        """Make it so; if something goes wrong on the way, everything is as before."""
        try:
            for policy, settings in self._plan.settings:
                self._old.append((policy, policy.settings))
                policy.reconfigure(settings)
            self._pipeline.swap(self._policies)
        except BaseException:
            self.undo()
            raise
        self._plan.base.made = self._plan.made
        if self._pipeline.order != self._before_order:
            warn_of(self.name, self._pipeline.order, stacklevel=2)

    def undo(self) -> None:
        """Take it back."""
        while self._old:
            policy, settings = self._old.pop()
            policy.reconfigure(settings)
        policies, self._plan.base.made = self._before
        if self._pipeline.policies != policies:
            self._pipeline.swap(policies)


def _policy(entry: Entry) -> Policy:
    return entry.policy if isinstance(entry, Placed) else entry


def _settings_of(policy: Any) -> Any:
    """Return the settings of a policy that can be changed while it runs, or None."""
    return getattr(policy, "settings", None) if callable(getattr(policy, "reconfigure", None)) else None
