"""What each level means for pages, reads and writes (DG-5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backstay.errors import Misuse

from .words import Level, level_of

__all__ = ["READS", "WRITES", "Actions"]

READS = ("origin", "distributed_cache", "local_cache", "static")
"""How far up a read chain reads go: the first tier that is asked."""

WRITES = ("sync", "async", "refuse")
"""To the database, to the cache with the database after it, or not at all."""


def _reads() -> Mapping[Level, str]:
    return {Level.ERROR: "distributed_cache", Level.SEVERE: "local_cache"}


def _writes() -> Mapping[Level, str]:
    return {Level.ERROR: "async", Level.SEVERE: "refuse"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What a resource does at each level, by kind. A level that is not named does as the one below it.

    Args:
        read: word of `READS` by level; NORMAL is `origin` unless named.
        write: word of `WRITES` by level; NORMAL is `sync` unless named.
        hide: the level from which on a block of a page is hidden, by the block's name.
        static: the level from which on a static page answers; None never.
        refuse: the level from which on calls are refused, but for probes; None never.
    """

    read: Mapping[Level, str] = field(default_factory=_reads)
    write: Mapping[Level, str] = field(default_factory=_writes)
    hide: Mapping[str, Level] = field(default_factory=dict[str, Level])
    static: Level | None = Level.SEVERE
    refuse: Level | None = Level.SEVERE

    def __post_init__(self) -> None:
        for name, known in (("read", READS), ("write", WRITES)):
            given: Mapping[Any, Any] = getattr(self, name)
            checked = {level_of(level, f"a level of {name}"): word for level, word in given.items()}
            for word in checked.values():
                if word not in known:
                    raise Misuse(f"{name} must be one of {', '.join(known)}, got {word!r}")
            object.__setattr__(self, name, checked)
        object.__setattr__(self, "hide", {block: level_of(at, f"hide {block}") for block, at in self.hide.items()})
        for name in ("static", "refuse"):
            at = getattr(self, name)
            object.__setattr__(self, name, None if at is None else level_of(at, name))

    def reads(self, level: Level) -> str:
        """Return the word of `READS` at a level."""
        return _at(self.read, level, "origin")

    def writes(self, level: Level) -> str:
        """Return the word of `WRITES` at a level."""
        return _at(self.write, level, "sync")

    def hidden(self, level: Level) -> frozenset[str]:
        """Return the blocks that are hidden at a level."""
        return frozenset(block for block, at in self.hide.items() if level >= at)


def _at(words: Mapping[Level, str], level: Level, else_: str) -> str:
    return next((words[below] for below in reversed(Level) if below <= level and below in words), else_)
