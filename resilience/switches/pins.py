"""One view of switches for a request: what it sees from start to end, whatever is delivered meanwhile (SW-9)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from .snapshot import Snapshot

__all__ = ["PinnedReads", "pin", "pinned"]

_pins: ContextVar[Mapping[object, Snapshot]] = ContextVar("backstay.switches.pins", default=MappingProxyType({}))


def pinned(owner: object) -> Snapshot | None:
    """Return the view that this thread or task has of the switches of `owner`, or None."""
    return _pins.get().get(owner)


@contextmanager
def pin(owner: object, view: Snapshot) -> Generator[Snapshot]:
    """Give the block, and what it awaits and starts, this view of the switches of `owner`."""
    token = _pins.set({**_pins.get(), owner: view})
    try:
        yield view
    finally:
        _pins.reset(token)


class PinnedReads(dict[str, "bool | None"]):
    """Stands for the plain look-up table of a process that pins views: each read goes to the view of its request."""

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        super().__init__()
        self._current = current

    def __getitem__(self, name: str) -> bool | None:
        return self._current().on[name]
