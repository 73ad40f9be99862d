"""The changes of several pipelines as one: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from .overlay import Change
from .pipeline import Pipeline

__all__ = ["Applying"]


class Applying:
    """What one document changes of all pipelines; a `Change` of the delivery's port.

    Args:
        pipelines: those that there are, by name.
        fresh: those that the document adds.
        changes: of each, checked and compiled.
    """

    def __init__(
        self, pipelines: MutableMapping[str, Pipeline], fresh: Mapping[str, Pipeline], changes: Sequence[Change]
    ) -> None:
        self._pipelines = pipelines
        self._fresh = fresh
        self._changes = changes
        self._done: list[Change] = []

    @property
    def changed(self) -> bool:
        """Whether anything is to change."""
        return bool(self._fresh) or any(change.changes for change in self._changes)

    @property
    def emptied(self) -> frozenset[str]:
        """The pipelines that lose all that documents brought."""
        return frozenset(change.name for change in self._changes if change.emptied)

    def apply(self) -> None:
        """Make it so; if something goes wrong on the way, everything is as before."""
        try:
            for change in self._changes:
                self._done.append(change)
                change.apply()
        except BaseException:
            self.undo()
            raise
        self._pipelines.update(self._fresh)

    def undo(self) -> None:
        """Take it back."""
        while self._done:
            self._done.pop().undo()
        for name, pipeline in self._fresh.items():
            if self._pipelines.get(name) is pipeline:
                del self._pipelines[name]
