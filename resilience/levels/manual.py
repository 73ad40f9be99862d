"""Who says which level a resource has: by hand, from elsewhere, by itself (DG-4). Pure: `now` is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from .words import Level

__all__ = ["Orders", "Pin", "decide"]


@dataclass(frozen=True, slots=True)
class Pin:
    """A level by hand that ends by itself, at monotonic second `until`."""

    level: Level
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What was said from one place: by this process, or by a document.

    Attributes:
        force: stays until it is taken away.
        pin: stays until its end.
        automatic: what somebody else's machine found, for many instances.
    """

    force: Level | None = None
    pin: Pin | None = None
    automatic: Level | None = None

    def at(self, now: float) -> Orders:
        """Return them without a pin that has ended."""
        if self.pin is not None and now >= self.pin.until:
            return Orders(force=self.force, automatic=self.automatic)
        return self


def decide(here: Orders, document: Orders, now: float) -> tuple[Level, str] | None:
    """Return the level that outranks the local machine, and who says so, or None where the machine decides."""
    here, document = here.at(now), document.at(now)
    for level, cause in (
        (here.force, "force"),
        (document.force, "force"),
        (None if here.pin is None else here.pin.level, "pin"),
        (None if document.pin is None else document.pin.level, "pin"),
        (document.automatic, "remote"),
    ):
        if level is not None:
            return level, cause
    return None
